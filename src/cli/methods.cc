#include <fmt/format.h>

#include <algorithm>

#include "cli/command.h"
#include "cli/process.h"
#include "compress/methods_markdown.h"
#include "restkv/compression_options.h"
#include "restkv/sparse.h"

namespace restkv::cli {
namespace {

int list_methods() {
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
  print(text);
  return kSuccess;
}

}  // namespace

std::function<int()> declare_methods(CLI::App& app) {
  app.footer(
      "Examples:\n"
      "  restkv methods\n"
      "  restkv methods --markdown   # the tables of docs/methods.md\n"
      "On the command line an option is written --like-this: --drift-scale 500.");
  const CLI::Option* markdown = app.add_flag("--markdown")->description("print tables in Markdown");
  return [markdown]() -> int {
    if (markdown->count() == 0) return list_methods();
    print(methods_markdown());
    return kSuccess;
  };
}

}  // namespace restkv::cli
