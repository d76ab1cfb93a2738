#include "eval/suites/code/code_context.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/ascii.h"

namespace restkv::eval {
namespace {

std::string_view guess_ending(std::string_view text) {
  const auto has_line = [&](std::string_view beginning) {
    return text.starts_with(beginning) ||
           text.find(fmt::format("\n{}", beginning)) != std::string_view::npos;
  };
  if (has_line("using ") || has_line("namespace ")) return "cs";
  if (has_line("package ") || has_line("import java") || has_line("public ")) return "java";
  if (has_line("def ") || has_line("class ") || has_line("import ") || has_line("from ") ||
      has_line("    def ")) {
    return "py";
  }
  return "txt";
}

std::string part_of_context(const CodeFile& file) {
  return fmt::format("{}{}{}", file_heading(file.name), file.text,
                     file.text.ends_with('\n') ? "" : "\n");
}

}  // namespace

std::string CodeFile::module() const {
  constexpr std::string_view kEnding = ".py";
  return name.ends_with(kEnding) ? name.substr(0, name.size() - kEnding.size()) : "";
}

std::string file_heading(std::string_view name) { return fmt::format("# file: {}\n", name); }

CodeFile longbench_file(std::string origin, std::string text) {
  // "repobench-p/3" is not a valid name of a Python module.
  const std::string set = origin.substr(0, origin.find_first_of("-/"));
  const std::string number = origin.substr(origin.find('/') + 1);
  std::string name = fmt::format("{}_{}.{}", set, number, guess_ending(text));
  return {std::move(name), std::move(text), std::move(origin)};
}

void CodeFiles::add_solved(std::span<const CodeProblem> problems) {
  for (const CodeProblem& problem : problems) {
    std::string name = lower_case(problem.id);
    std::ranges::replace_if(
        name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
    add({name + ".py", problem.prompt + problem.solution, problem.id});
  }
}

CodeFiles::Choice CodeFiles::choose(const Request& request, const Tokenizer& tokenizer,
                                    Random& random) const {
  std::vector<size_t> order(files_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  random.shuffle(order);
  const auto count = [&](const std::string& text, bool whole) {
    return tokenizer.encode(text, whole, false).size();
  };
  const size_t taken = count(request.prompt(""), true);

  Choice choice;
  choice.all_used = taken <= request.limit;
  std::vector<size_t> parts;
  for (const size_t i : order) {
    const CodeFile& file = files_[i];
    if (request.leave_out(file)) continue;
    const size_t tokens = count(part_of_context(file), false);
    if (taken + choice.tokens + tokens > request.limit) {
      choice.all_used = false;
      break;
    }
    choice.files.push_back(&file);
    parts.push_back(tokens);
    choice.tokens += tokens;
  }
  // A text may have a few tokens more than its parts.
  while (!parts.empty() &&
         count(request.prompt(context_text(choice.files)), true) > request.limit) {
    choice.tokens -= parts.back();
    choice.files.pop_back();
    parts.pop_back();
    choice.all_used = false;
  }
  return choice;
}

std::string context_text(std::span<const CodeFile* const> files) {
  std::string text;
  for (const CodeFile* file : files) text += part_of_context(*file);
  return text;
}

bool gives_away(const CodeFile& file, const CodeProblem& problem) {
  return file.origin == problem.id || defines(file.text, problem.entry_point);
}

}  // namespace restkv::eval
