#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

#include "base/closest_name.h"
#include "cli/command.h"
#include "cli/process.h"
#include "compress/methods_markdown.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"
#include "restkv/sparse.h"

namespace restkv::cli {
namespace {

/// "name    summary", a line each.
template <class List>
std::string lines_of(const List& list) {
  size_t width = 0;
  for (const auto& row : list) width = std::max(width, row.name.size());
  std::string text;
  for (const auto& row : list) text += fmt::format("  {:<{}}  {}\n", row.name, width, row.summary);
  return text;
}

std::string overview() {
  return "Methods (--method):\n" + lines_of(methods()) +
         "\nSparse patterns for reading prompts (--sparse):\n" + lines_of(sparse_patterns()) +
         "\nrestkv methods NAME shows what it computes, its options and its paper.\n";
}

/// `rows` of name, default, help and values.
std::string option_line(std::string_view name, std::string_view value, std::string_view help,
                        std::string_view values) {
  return fmt::format("  {:<18} {:<9} {} [{}]\n", name, value, help, values);
}

std::string details(const Method& method) {
  std::string text = fmt::format("{}\n  {}\n", method.name, method.summary);
  if (!method.paper.empty()) text += fmt::format("  {}\n", method.paper);
  if (method.options.empty()) return text;
  text += "\nOptions and their defaults:\n";
  for (const std::string_view name : method.options) {
    const CompressionOption& option = find_compression_option(name);
    text += option_line(name, option.get(method.defaults), option.help, option.values);
  }
  return text;
}

std::string details(const SparsePattern& pattern) {
  std::string text = fmt::format("{}\n  {}\n  {}\n", pattern.name, pattern.summary, pattern.paper);
  if (pattern.options.empty()) return text;
  text += "\nOptions and their defaults:\n";
  for (const std::string_view name : pattern.options) {
    const SparseOption& option = *std::ranges::find(sparse_options(), name, &SparseOption::name);
    text += option_line(name, option.get(SparseOptions()), option.help, option.values);
  }
  return text;
}

std::string details_of(std::string_view name) {
  const auto patterns = sparse_patterns();
  const auto pattern = std::ranges::find_if(
      patterns, [&](const SparsePattern& each) { return same_name(each.name, name); });
  return pattern != patterns.end() ? details(*pattern) : details(find_method(name));
}

}  // namespace

std::function<int()> declare_methods(ArgumentParser& parser) {
  auto name = std::make_shared<std::string>();
  auto markdown = std::make_shared<bool>(false);
  parser.add("method", *name, "show this method or sparse pattern, with its options", "NAME");
  parser.add_flag("--markdown", *markdown, "print tables in Markdown");
  parser.set_footer(
      "Examples:\n"
      "  restkv methods\n"
      "  restkv methods snapkv\n"
      "  restkv methods --markdown   # the tables of docs/methods.md\n"
      "On the command line an option is written --like-this: --drift-scale 500.");
  return [name, markdown] {
    if (*markdown && !name->empty()) {
      throw Error(ErrorCode::kInvalidArgument,
                  "--markdown prints the tables of all methods; leave the name or it out");
    }
    print_page(*markdown ? methods_markdown() : name->empty() ? overview() : details_of(*name));
    return kSuccess;
  };
}

}  // namespace restkv::cli
