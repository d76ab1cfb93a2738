#include "server/http/target.h"

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "server/http/http_error.h"

namespace restkv::server {
namespace {

HttpError bad_path(const std::string& reason) {
  return HttpError(400, "the request's path cannot be used: " + reason);
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string decoded(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_space) {
      out += ' ';
    } else if (text[i] != '%') {
      out += text[i];
    } else {
      const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
      if (high < 0 || low < 0) throw bad_path("\"%\" must be followed by two hexadecimal digits");
      out += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  if (out.find('\0') != std::string::npos) throw bad_path("it holds a zero byte");
  if (replace_invalid_utf8(out) != out) throw bad_path("it is not valid UTF-8");
  return out;
}

bool is_control(char c) { return (c >= 0 && c < 0x20) || c == 0x7F; }

/// Calls `use` with what stands between the separators.
template <class Use>
void split(std::string_view text, char separator, Use use) {
  for (;;) {
    const size_t end = text.find(separator);
    use(text.substr(0, end));
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

void add_segment(std::vector<std::string>& segments, std::string segment) {
  if (std::ranges::any_of(segment, is_control)) throw bad_path("it holds a control character");
  if (segment.empty() || segment == ".") return;
  if (segment == "..") {
    if (segments.empty()) throw bad_path("\"..\" leads out of the root");
    segments.pop_back();
    return;
  }
  if (segment.find('/') != std::string::npos) {
    split(segment, '/', [](std::string_view part) {
      if (part == "." || part == "..") throw bad_path("a dot segment hides behind \"%2F\"");
    });
  }
  segments.push_back(std::move(segment));
}

}  // namespace

Target parse_target(std::string_view target) {
  Target result;
  if (target == "*") {
    result.path = "*";
    return result;
  }
  if (target.find('#') != std::string_view::npos) throw bad_path("it holds a fragment (\"#\")");
  if (!target.starts_with('/')) {
    constexpr std::string_view kScheme = "http://";
    if (!same_but_case(target.substr(0, kScheme.size()), kScheme)) {
      throw bad_path("it must begin with \"/\"");
    }
    target.remove_prefix(kScheme.size());
    const size_t end = std::min(target.find_first_of("/?"), target.size());
    result.authority = target.substr(0, end);
    if (result.authority.empty()) throw bad_path("the host is missing");
    target.remove_prefix(end);
  }
  const size_t question = target.find('?');
  split(target.substr(0, question), '/',
        [&](std::string_view segment) { add_segment(result.segments, decoded(segment, false)); });
  if (!result.segments.empty()) {
    result.path.clear();
    for (const std::string& segment : result.segments) result.path += "/" + segment;
  }
  if (question != std::string_view::npos) {
    split(target.substr(question + 1), '&', [&](std::string_view field) {
      if (field.empty()) return;
      const size_t equals = std::min(field.find('='), field.size());
      const std::string_view value = field.substr(std::min(equals + 1, field.size()));
      result.query.emplace_back(decoded(field.substr(0, equals), true), decoded(value, true));
    });
  }
  return result;
}

}  // namespace restkv::server
