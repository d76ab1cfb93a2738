#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "hub/http_client.h"
#include "hub/hub_name.h"
#include "hub/model_choice.h"

namespace restkv::hub {

/// A hub of models that speaks the routes of Hugging Face: lists of files
/// (`/api/models/OWNER/REPOSITORY/tree/main`) and files (`/OWNER/REPOSITORY/resolve/main/PATH`).
/// Every failure throws `Error` (kInput, or kUnsupported without libcurl) that says what to do.
class Hub {
 public:
  struct Options {
    std::string endpoint;  ///< "https://huggingface.co"
    std::string token;     ///< Or empty.
    /// Before the second attempt; every further one waits twice as long.
    std::chrono::milliseconds first_wait{1000};
  };
  explicit Hub(Options options);

  /// The files of a repository that have a SHA-256 and a usable path and end with ".gguf".
  std::vector<HubFile> list(const HubName& name);

  /// The bytes of a file from number `first` on. `sink.begin` may come again, with another number:
  /// a connection that breaks is tried again, as long as bytes come in between.
  void download(const HubName& name, const HubFile& file, size_t first,
                const HttpClient::Sink& sink);

 private:
  /// Runs `ask` until it has an answer that is worth reading: four times more if not.
  HttpAnswer patiently(const std::function<HttpAnswer()>& ask) const;
  /// Mirrors may name the hub that they copy; one stays where one began, with the token.
  [[nodiscard]] std::string next_page(const HubName& name, const std::string& address) const;
  [[noreturn]] void refuse(const HubName& name, const std::string& what,
                           const HttpAnswer& answer) const;

  Options options_;
  HttpClient http_;
};

}  // namespace restkv::hub
