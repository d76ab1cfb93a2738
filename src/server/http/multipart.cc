#include "server/http/multipart.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/text.h"
#include "server/http/http_error.h"
#include "server/http/message.h"

namespace restkv::server {
namespace {

HttpError bad_form(std::string_view reason) {
  return HttpError(400, fmt::format("the form is broken: {}", reason));
}

/// "form-data; name=\"a\"; filename=\"b;c\"": the value and its parameters.
struct FieldValue {
  std::string value;
  Fields parameters;

  [[nodiscard]] const std::string* find(std::string_view name) const {
    for (const auto& [key, content] : parameters) {
      if (same_but_case(key, name)) return &content;
    }
    return nullptr;
  }
};

/// Takes a text in quotes from the front of `text`, which begins with one.
std::string take_quoted(std::string_view& text) {
  std::string result;
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') {
      text.remove_prefix(i + 1);
      return result;
    }
    // Only these two: Internet Explorer sent paths with single backslashes.
    const bool escape =
        text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == '"' || text[i + 1] == '\\');
    if (escape) ++i;
    result += text[i];
  }
  throw bad_form("a quotation mark is missing in its header");
}

FieldValue parse_value(std::string_view text) {
  FieldValue result;
  const auto take_until = [&](std::string_view ends) {
    const size_t end = std::min(text.find_first_of(ends), text.size());
    const std::string_view token = trimmed(text.substr(0, end));
    text.remove_prefix(end);
    return std::string(token);
  };
  result.value = take_until(";");
  while (!text.empty()) {
    text = trimmed(text.substr(1));  // the semicolon
    if (text.empty()) break;
    std::string name = take_until("=;");
    if (!text.starts_with('=')) throw bad_form("a parameter in its header has no value");
    text = trimmed(text.substr(1));
    std::string value = text.starts_with('"') ? take_quoted(text) : take_until(";");
    text = trimmed(text);
    if (!text.empty() && text[0] != ';') throw bad_form("a semicolon is missing in its header");
    if (result.find(name) != nullptr) throw bad_form("a parameter stands twice in its header");
    result.parameters.emplace_back(std::move(name), std::move(value));
  }
  return result;
}

Headers parse_headers(std::string_view text) {
  Headers headers;
  while (!text.empty()) {
    const size_t end = std::min(text.find("\r\n"), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 2, text.size()));
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0)
      throw bad_form("a part's header has no name");
    headers.add(std::string(line.substr(0, colon)), std::string(trimmed(line.substr(colon + 1))));
  }
  return headers;
}

void require_text(std::string_view text, const char* what, const MultipartLimits& limits) {
  if (text.size() > limits.name_bytes) {
    throw HttpError(413,
                    fmt::format("{} in the form has more than {} bytes", what, limits.name_bytes));
  }
  const bool control =
      std::ranges::any_of(text, [](char c) { return (c >= 0 && c < 0x20) || c == 0x7F; });
  if (control || replace_invalid_utf8(text) != text) {
    throw bad_form(fmt::format("{} is no text", what));
  }
}

FormPart parse_part(std::string_view header, std::string_view content,
                    const MultipartLimits& limits) {
  if (header.size() > limits.header_bytes) {
    throw HttpError(413, fmt::format("a part's header in the form has more than {} bytes",
                                     limits.header_bytes));
  }
  const Headers headers = parse_headers(header);
  const FieldValue disposition = parse_value(headers.value("Content-Disposition"));
  const std::string* name = disposition.find("name");
  if (!same_but_case(disposition.value, "form-data") || name == nullptr) {
    throw bad_form("a part has no \"Content-Disposition: form-data\" with a name");
  }
  const std::string_view encoding = headers.value("Content-Transfer-Encoding");
  if (!encoding.empty() && !same_but_case(encoding, "binary") && !same_but_case(encoding, "8bit") &&
      !same_but_case(encoding, "7bit")) {
    throw bad_form("a part has a Content-Transfer-Encoding, which forms do not have");
  }
  FormPart part;
  part.name = *name;
  if (const std::string* file = disposition.find("filename")) part.file_name = *file;
  part.content_type = headers.value("Content-Type");
  require_text(part.name, "a name", limits);
  require_text(part.file_name, "a file's name", limits);
  part.content = content;
  return part;
}

std::string boundary_of(std::string_view content_type) {
  const FieldValue type = parse_value(content_type);
  if (!same_but_case(type.value, "multipart/form-data")) {
    throw HttpError(415, "the request's Content-Type must be multipart/form-data");
  }
  const std::string* boundary = type.find("boundary");
  if (boundary == nullptr || boundary->empty() || boundary->size() > 70) {
    throw bad_form("its Content-Type has no boundary of 1 to 70 characters");
  }
  return *boundary;
}

}  // namespace

std::vector<FormPart> parse_multipart(std::string_view content_type, std::string_view body,
                                      const MultipartLimits& limits) {
  const std::string mark = "--" + boundary_of(content_type);
  // The first mark may stand at the very beginning, all others behind a line's end.
  const std::string line_mark = "\r\n" + mark;
  if (body.starts_with(mark)) {
    body.remove_prefix(mark.size());
  } else {
    const size_t first = body.find(line_mark);
    if (first == std::string_view::npos) throw bad_form("its boundary does not stand in it");
    body.remove_prefix(first + line_mark.size());
  }
  std::vector<FormPart> parts;
  for (;;) {
    if (body.starts_with("--")) return parts;
    const size_t padding = std::min(body.find_first_not_of(" \t"), body.size());
    body.remove_prefix(padding);
    if (!body.starts_with("\r\n")) throw bad_form("there is something behind a boundary");
    if (parts.size() == limits.parts) {
      throw HttpError(413, fmt::format("the form has more than {} parts", limits.parts));
    }
    const size_t header_end = body.find("\r\n\r\n");
    if (header_end == std::string_view::npos) throw bad_form("a part's header does not end");
    const std::string_view header = body.substr(2, std::max<size_t>(header_end, 2) - 2);
    body.remove_prefix(header_end + 2);
    const size_t end = body.find(line_mark, 0);
    if (end == std::string_view::npos) throw bad_form("it ends within a part");
    const std::string_view content = end < 2 ? std::string_view{} : body.substr(2, end - 2);
    parts.push_back(parse_part(header, content, limits));
    body.remove_prefix(end + line_mark.size());
  }
}

}  // namespace restkv::server
