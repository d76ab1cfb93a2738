#include "server/http/http_error.h"

#include <utility>

#include "base/json.h"

namespace restkv::server {
namespace {

std::string usual_type(int status) {
  switch (status) {
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
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

Json text_or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

}  // namespace

HttpError::HttpError(int status, const std::string& message, Details details)
    : std::runtime_error(message), status_(status), details_(std::move(details)) {
  if (details_.type.empty()) details_.type = usual_type(status);
}

Headers HttpError::headers() const {
  Headers headers{{"Content-Type", "application/json"}};
  if (details_.retry_after > 0) headers.add("Retry-After", std::to_string(details_.retry_after));
  for (const auto& [name, value] : details_.headers) headers.add(name, value);
  return headers;
}

std::string HttpError::json() const {
  const Json error = Json::object({{"message", what()},
                                   {"type", details_.type},
                                   {"param", text_or_null(details_.param)},
                                   {"code", text_or_null(details_.code)}});
  return Json::object({{"error", error}}).dump();
}

HttpError http_error(const Error& error, std::string param) {
  switch (error.code()) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kInput:
    case ErrorCode::kUnsupported:
      return {400, error.what(), {.param = std::move(param)}};
    case ErrorCode::kInterrupted:
      return {503, "the server is stopping; ask again later", {.retry_after = 1}};
    case ErrorCode::kOutOfMemory:
      return {503,
              *error.what() != '\0'
                  ? error.what()
                  : "the server has too little memory for this now; ask for less, or later",
              {.retry_after = 5}};
    case ErrorCode::kIo:
      return {500, "the server could not read or write a file of its own; its log says which"};
    case ErrorCode::kInternal:
      break;
  }
  return {500, "the server made a mistake; its log says which"};
}

const char* reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 421:
      return "Misdirected Request";
    case 422:
      return "Unprocessable Content";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    case 507:
      return "Insufficient Storage";
    default:
      return "";
  }
}

}  // namespace restkv::server
