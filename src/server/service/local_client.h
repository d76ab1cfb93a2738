#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "server/http/router.h"

namespace restkv::server {

struct LocalAnswer {
  int status = 0;  ///< Of HTTP.
  std::string body;
};

/// Calls routes in the same process, without a network.
class LocalClient {
 public:
  /// `router` must outlive the client and all answers.
  explicit LocalClient(const Router& router) : router_(router) {}

  /// Whether there is a route.
  [[nodiscard]] bool knows(std::string_view method, std::string_view path) const;
  /// Sends a request. `hears` gets the whole answer, once, on any thread, where it must neither
  /// block nor throw; also that there is no such route (404).
  void send(std::string method, std::string path, std::string body,
            std::function<void(LocalAnswer)> hears) const;
  /// The same; waits for the answer.
  [[nodiscard]] LocalAnswer ask(std::string method, std::string path, std::string body) const;

 private:
  const Router& router_;
};

}  // namespace restkv::server
