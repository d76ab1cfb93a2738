#pragma once

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>
#include <vector>

namespace restkv::eval {

/// What is wrong with `markup` as XML (with HTML's void elements and doctype allowed), or "".
/// Checks what the writers can get wrong: nesting, quoting of attributes, bare '<' and '&'.
inline std::string markup_error(std::string_view markup) {
  std::vector<std::string> open;
  const auto entity_error = [](std::string_view text) -> std::string {
    for (size_t at = 0; (at = text.find('&', at)) != std::string_view::npos; ++at) {
      const size_t end = text.find(';', at);
      if (end == std::string_view::npos || end - at > 7) {
        return "bare & in: " + std::string(text.substr(at, 40));
      }
    }
    return "";
  };
  size_t at = 0;
  while (at < markup.size()) {
    const size_t tag = std::min(markup.find('<', at), markup.size());
    const std::string_view text = markup.substr(at, tag - at);
    if (auto error = entity_error(text); !error.empty()) return error;
    if (open.empty() && text.find_first_not_of(" \n") != std::string_view::npos) {
      return "text outside the root: " + std::string(text.substr(0, 40));
    }
    if (tag == markup.size()) break;
    size_t end = tag + 1;
    for (bool quoted = false; end < markup.size() && (quoted || markup[end] != '>'); ++end) {
      if (markup[end] == '"') quoted = !quoted;
      if (markup[end] == '<') return "< inside: " + std::string(markup.substr(tag, 60));
    }
    if (end == markup.size()) return "no end: " + std::string(markup.substr(tag, 60));
    const std::string_view inside = markup.substr(tag + 1, end - tag - 1);
    if (auto error = entity_error(inside); !error.empty()) return error;
    at = end + 1;
    if (inside.starts_with("!DOCTYPE")) continue;
    const bool closing = inside.starts_with('/');
    const std::string name(
        inside.substr(closing, inside.find_first_of(" \n/", closing) - (closing ? 1 : 0)));
    if (name.empty() || !std::isalpha(static_cast<unsigned char>(name[0]))) {
      return "not a tag: " + std::string(inside.substr(0, 40));
    }
    if (closing) {
      if (open.empty() || open.back() != name) return "unexpected </" + name + ">";
      open.pop_back();
    } else if (!inside.ends_with('/') && name != "meta" && name != "br") {
      open.push_back(name);
    }
  }
  return open.empty() ? "" : "never closed: " + open.back();
}

}  // namespace restkv::eval
