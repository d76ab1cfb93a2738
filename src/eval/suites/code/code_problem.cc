#include "eval/suites/code/code_problem.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>
#include <vector>

#include "eval/jsonl.h"

namespace restkv::eval {
namespace {

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

/// Offset of the whole word `word` in `text`, from `from` on.
size_t find_word(std::string_view text, std::string_view word, size_t from = 0) {
  for (size_t at = text.find(word, from); at != std::string_view::npos;
       at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    if ((at == 0 || !is_word(text[at - 1])) && (end == text.size() || !is_word(text[end]))) {
      return at;
    }
  }
  return std::string_view::npos;
}

std::string replace_word(std::string_view text, std::string_view word, std::string_view by) {
  std::string result;
  size_t from = 0;
  for (size_t at = 0; (at = find_word(text, word, from)) != std::string_view::npos;) {
    result += text.substr(from, at - from);
    result += by;
    from = at + word.size();
  }
  return result += text.substr(from);
}

/// The lines of a text with their newlines.
std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return lines;
}

std::string_view without_indent(std::string_view line) {
  return line.substr(std::min(line.find_first_not_of(' '), line.size()));
}

size_t indent(std::string_view line) { return line.size() - without_indent(line).size(); }
bool is_blank(std::string_view line) {
  return without_indent(line).find_first_not_of("\r\n") == std::string_view::npos;
}

/// The name in "def name(", "" if the line is something else.
std::string_view defined_function(std::string_view line) {
  constexpr std::string_view kDef = "def ";
  line = without_indent(line);
  if (!line.starts_with(kDef)) return {};
  line.remove_prefix(kDef.size());
  return line.substr(0,
                     static_cast<size_t>(std::ranges::find_if_not(line, is_word) - line.begin()));
}

struct Function {
  std::string name;
  std::string source;  ///< Without its indentation.
  std::string rest;    ///< The text without it.
};

/// The first function of `text` that is indented by `depth` and not called `other`.
std::optional<Function> take_function(std::string_view text, size_t depth, std::string_view other) {
  Function function;
  bool inside = false;
  for (const std::string_view line : lines_of(text)) {
    const std::string_view name = defined_function(line);
    if (function.name.empty() && !name.empty() && indent(line) == depth && name != other) {
      function.name = name;
      inside = true;
    } else if (inside && !is_blank(line) && indent(line) <= depth) {
      inside = false;
    }
    if (inside) {
      function.source += is_blank(line) ? "\n" : line.substr(depth);
    } else {
      function.rest += line;
    }
  }
  if (function.name.empty()) return {};
  return function;
}

/// The import statements of a text, without their indentation.
std::string imports_of(std::string_view text) {
  std::string imports;
  for (const std::string_view line : lines_of(text)) {
    const std::string_view statement = without_indent(line);
    if (statement.starts_with("import ") || statement.starts_with("from ")) imports += statement;
  }
  return imports;
}

}  // namespace

CodeProblem code_problem(const Json& record) {
  return {.id = text_field(record, "task_id"),
          .prompt = filled_text_field(record, "prompt"),
          .entry_point = filled_text_field(record, "entry_point"),
          .solution = text_field(record, "canonical_solution"),
          .test = filled_text_field(record, "test")};
}

Harness harness_of(const CodeProblem& problem) {
  return {.before = problem.prompt,
          .after = fmt::format("{}\ncheck({})", problem.test, problem.entry_point)};
}

std::string assemble(const Harness& harness, std::string_view completion) {
  return fmt::format("{}{}\n{}", harness.before, completion, harness.after);
}

std::optional<HelperProblem> take_helper(const CodeProblem& problem, Random& random) {
  HelperProblem helper{.rest = problem, .name = {}, .source = {}};
  std::optional<Function> function = take_function(problem.prompt, 0, problem.entry_point);
  const bool in_prompt = function.has_value();
  if (in_prompt) {
    helper.rest.prompt = function->rest;
  } else {
    constexpr size_t kBody = 4;  // the indentation of a function's body
    function = take_function(problem.solution, kBody, problem.entry_point);
    if (!function) return {};
    helper.rest.solution = function->rest;
  }
  helper.name = fmt::format("{}_{}", function->name, random.between(1000, 9999));
  const auto rename = [&](std::string& text) {
    text = replace_word(text, function->name, helper.name);
  };
  rename(function->source);
  rename(helper.rest.prompt);
  rename(helper.rest.solution);
  // The test may call functions of the prompt; its own `check` is not one of them.
  if (in_prompt) rename(helper.rest.test);
  helper.source = imports_of(problem.prompt) + imports_of(problem.solution) + function->source;
  return helper;
}

Harness harness_of(const HelperProblem& problem, const std::string& module) {
  Harness harness = harness_of(problem.rest);
  // A JSON string in ASCII is a valid Python string.
  const std::string source = Json(problem.source).dump_ascii();
  harness.before = fmt::format(
      "import sys, types\n"
      "sys.modules['{0}'] = types.ModuleType('{0}')\n"
      "exec({1}, sys.modules['{0}'].__dict__)\n"
      "{2}",
      module, source, harness.before);
  // The test uses the function under an alias, so that the answer must import it.
  const std::string alias = fmt::format("tested_{}", problem.name);
  if (find_word(problem.rest.test, problem.name) != std::string_view::npos) {
    harness.after = fmt::format("from {} import {} as {}\n{}", module, problem.name, alias,
                                replace_word(harness.after, problem.name, alias));
  }
  return harness;
}

bool defines(std::string_view text, std::string_view name) {
  constexpr std::array<std::string_view, 5> kKeywords{"def", "class", "function", "func", "fn"};
  for (size_t at = find_word(text, name); at != std::string_view::npos;
       at = find_word(text, name, at + 1)) {
    const size_t line_begin = text.rfind('\n', at) + 1;  // npos + 1 is 0
    const size_t line_end = std::min(text.find('\n', at), text.size());
    std::string_view before = text.substr(line_begin, at - line_begin);
    const std::string_view after =
        without_indent(text.substr(at + name.size(), line_end - at - name.size()));
    if (before.ends_with('.')) continue;  // a member of something else: object.name(...)
    before = before.substr(0, before.find_last_not_of(" \t") + 1);
    for (const std::string_view keyword : kKeywords) {
      if (before.ends_with(keyword)) return true;
    }
    if (after.starts_with('=') && !after.starts_with("==")) return true;
    // "List<int> name(...)"; "return name(...)" looks the same
    if (after.starts_with('(') && !before.empty() &&
        (is_word(before.back()) ||
         std::string_view(">]*&").find(before.back()) != std::string_view::npos)) {
      return true;
    }
  }
  return false;
}

}  // namespace restkv::eval
