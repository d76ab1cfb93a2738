#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>

#include "cli/command.h"
#include "cli/process.h"
#include "compress/methods_markdown.h"
#include "restkv/compression_options.h"
#include "restkv/sparse.h"

namespace restkv::cli {
namespace {

std::string methods_text() {
  std::string text;
  for (const Method& method : methods()) {
    text += fmt::format("{}\n  {}\n", method.name, method.summary);
    if (!method.paper.empty()) text += fmt::format("  {}\n", method.paper);
    for (const std::string_view name : method.options) {
      const CompressionOption& option = find_compression_option(name);
      text += fmt::format("    {:<22} {:<14} {} [{}]\n", name, option.get(method.defaults),
                          option.help, option.values);
    }
    text += '\n';
  }
  text += "Sparse patterns for reading prompts (--sparse)\n\n";
  for (const SparsePattern& pattern : sparse_patterns()) {
    text += fmt::format("{}\n  {}\n  {}\n", pattern.name, pattern.summary, pattern.paper);
    for (const std::string_view name : pattern.options) {
      const SparseOption& option = *std::ranges::find(sparse_options(), name, &SparseOption::name);
      text += fmt::format("    {:<22} {:<14} {} [{}]\n", name, option.get(SparseOptions()),
                          option.help, option.values);
    }
    text += '\n';
  }
  return text;
}

}  // namespace

std::function<int()> declare_methods(ArgumentParser& parser) {
  parser.set_footer(
      "Examples:\n"
      "  restkv methods\n"
      "  restkv methods --markdown   # the tables of docs/methods.md\n"
      "On the command line an option is written --like-this: --drift-scale 500.");
  auto markdown = std::make_shared<bool>(false);
  parser.add_flag("--markdown", *markdown, "print tables in Markdown");
  return [markdown] {
    print(*markdown ? methods_markdown() : methods_text());
    return kSuccess;
  };
}

}  // namespace restkv::cli
