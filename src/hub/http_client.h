#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace restkv::hub {

struct HttpAnswer {
  long status = 0;    ///< Of the last answer, redirections followed; 0: there was none.
  std::string error;  ///< Why there was none, or why it ended early; empty: it is whole.
  std::string body;   ///< Of a download only if its status is neither 200 nor 206.
  std::string next;   ///< Address of the next page of a list (RFC 8288, rel="next"), if any.
};

/// Asks by HTTP or HTTPS, with libcurl: certificates are checked, and proxies are those of the
/// environment (HTTPS_PROXY, NO_PROXY), but for this machine itself. For one thread at a time.
/// Throws `Error` (kUnsupported) if libcurl does not work.
class HttpClient {
 public:
  /// `token`: sent to the host of each address, but to none that it redirects to; empty: none.
  explicit HttpClient(const std::string& token);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  /// An answer with at most `most_bytes`; a longer one is an error.
  HttpAnswer get(const std::string& url, size_t most_bytes);

  /// Takes the bytes of a download.
  struct Sink {
    /// Comes first, with the number of the first byte: the one asked for, or 0 if the server
    /// cannot begin there.
    std::function<void(size_t first)> begin;
    std::function<void(std::string_view bytes)> write;
  };
  /// The bytes of an address from number `first` on. What the sink throws ends it.
  HttpAnswer download(const std::string& url, size_t first, const Sink& sink);

  /// A part of a path with % for characters that addresses do not have.
  [[nodiscard]] std::string escaped(std::string_view part) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace restkv::hub
