#pragma once

#include <stdexcept>
#include <string>

#include "base/json.h"
#include "restkv/error.h"

namespace restkv::server {

/// A request that gets an error for an answer. All of it is for the client to read.
class ApiError : public std::runtime_error {
 public:
  /// `param`: the field of the request, "messages[2].content"; empty: none. `code`: a word for
  /// programs, "context_length_exceeded"; empty: none.
  ApiError(int status, const std::string& message, std::string param = {}, std::string code = {});

  [[nodiscard]] int status() const { return status_; }  ///< Of HTTP.
  /// "invalid_request_error", or what else OpenAI calls errors of this status.
  [[nodiscard]] const char* type() const;
  [[nodiscard]] const std::string& param() const { return param_; }
  [[nodiscard]] const std::string& code() const { return code_; }
  /// {"error": {"message", "type", "param", "code"}}
  [[nodiscard]] Json json() const;

 private:
  int status_;
  std::string param_;
  std::string code_;
};

/// What the library refuses, as an answer: 400 for what the request is to blame for; for the rest a
/// message that does not say what happened inside.
ApiError api_error(const Error& error, std::string param = {});

}  // namespace restkv::server
