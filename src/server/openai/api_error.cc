#include "server/openai/api_error.h"

#include <utility>

namespace restkv::server {
namespace {

Json text_or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

}  // namespace

ApiError::ApiError(int status, const std::string& message, std::string param, std::string code)
    : std::runtime_error(message),
      status_(status),
      param_(std::move(param)),
      code_(std::move(code)) {}

const char* ApiError::type() const {
  switch (status_) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "unavailable_error";
    default:
      return status_ < 500 ? "invalid_request_error" : "server_error";
  }
}

Json ApiError::json() const {
  return Json::object({{"error", Json::object({{"message", what()},
                                               {"type", type()},
                                               {"param", text_or_null(param_)},
                                               {"code", text_or_null(code_)}})}});
}

ApiError api_error(const Error& error, std::string param) {
  switch (error.code()) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kInput:
    case ErrorCode::kUnsupported:
      return {400, error.what(), std::move(param)};
    case ErrorCode::kInterrupted:
      return {503, "the server is stopping; ask again later"};
    case ErrorCode::kIo:
      break;
  }
  return {500, "the server could not read or write a file of its own; its log says which"};
}

}  // namespace restkv::server
