#include "compress/methods_markdown.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "restkv/compress.h"
#include "restkv/compression_options.h"

namespace restkv {
namespace {

/// Text for a cell of a table.
std::string cell(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '|') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

std::string option_list(const std::vector<std::string_view>& names,
                        const CompressionOptions& defaults) {
  std::string list;
  for (const std::string_view name : names) {
    list += fmt::format("{}`{}={}`", list.empty() ? "" : ", ", name,
                        find_compression_option(name).get(defaults));
  }
  return list.empty() ? "-" : list;
}

/// A method's own options: those of allocation and second stage are the same for all.
std::vector<std::string_view> own_options(const Method& method) {
  std::vector<std::string_view> own = method.options;
  if (method.allocates) own.erase(std::find(own.begin(), own.end(), "allocation"), own.end());
  return own;
}

}  // namespace

std::string methods_markdown() {
  std::string text = "| method | what stays | options and defaults | source |\n|---|---|---|---|\n";
  for (const Method& method : methods()) {
    text += fmt::format("| `{}` | {} | {} | {} |\n", method.name, cell(method.summary),
                        option_list(own_options(method), method.defaults), cell(method.paper));
  }
  text += "\n| allocation | rule | options and defaults | source |\n|---|---|---|---|\n";
  for (const Allocation& allocation : allocations()) {
    text += fmt::format("| `{}` | {} | {} | {} |\n", allocation.name, cell(allocation.summary),
                        option_list(allocation.options, {}),
                        allocation.paper.empty() ? "-" : cell(allocation.paper));
  }
  text += "\n| option | values | meaning |\n|---|---|---|\n";
  for (const CompressionOption& option : compression_options()) {
    text +=
        fmt::format("| `{}` | {} | {} |\n", option.name, cell(option.values), cell(option.help));
  }
  return text;
}

}  // namespace restkv
