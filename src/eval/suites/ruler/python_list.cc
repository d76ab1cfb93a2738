#include "eval/suites/ruler/python_list.h"

#include <fmt/format.h>

namespace restkv::eval::ruler {
namespace {

std::string quoted(const std::string& text) {
  const bool single = text.find('\'') == std::string::npos || text.find('"') != std::string::npos;
  const char quote = single ? '\'' : '"';
  std::string result(1, quote);
  for (const char c : text) {
    if (c == '\n') {
      result += "\\n";
    } else if (c == '\t') {
      result += "\\t";
    } else {
      if (c == '\\' || c == quote) result += '\\';
      result += c;
    }
  }
  return result + quote;
}

}  // namespace

std::string python_list(const std::vector<std::string>& texts) {
  std::string list = "[";
  for (const std::string& text : texts) {
    if (list.size() > 1) list += ", ";
    list += quoted(text);
  }
  return list + ']';
}

}  // namespace restkv::eval::ruler
