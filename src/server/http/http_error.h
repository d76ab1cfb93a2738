#pragma once

#include <stdexcept>
#include <string>

#include "restkv/error.h"
#include "server/http/message.h"

namespace restkv::server {

/// An answer that is an error. A handler may throw it; it has to be fit for the client to read.
class HttpError : public std::runtime_error {
 public:
  /// Fields of the JSON that OpenAI has beside the message.
  struct Details {
    std::string type = {};   ///< Empty: what goes with the status, "invalid_request_error".
    std::string param = {};  ///< The field of the request; empty: null.
    std::string code = {};   ///< Empty: null.
    int retry_after = 0;     ///< Seconds for the header `Retry-After`; 0: none.
    Fields headers = {};     ///< More fields of the answer's header.
  };

  HttpError(int status, const std::string& message) : HttpError(status, message, Details{}) {}
  HttpError(int status, const std::string& message, Details details);

  [[nodiscard]] int status() const { return status_; }
  [[nodiscard]] const Details& details() const { return details_; }
  /// Of the answer, with Content-Type.
  [[nodiscard]] Headers headers() const;
  /// {"error":{"message":...,"type":...,"param":...,"code":...}}
  [[nodiscard]] std::string json() const;

 private:
  int status_;
  Details details_;
};

/// What the library refuses, as an answer: 400 if the request is to blame; otherwise a message that
/// does not say what happened inside. `param`: the field of the request.
HttpError http_error(const Error& error, std::string param = {});

/// "Not Found"; empty for a status that has no name here.
const char* reason_phrase(int status);

}  // namespace restkv::server
