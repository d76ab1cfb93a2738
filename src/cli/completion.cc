#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command.h"
#include "cli/process.h"
#include "eval/recipe.h"
#include "eval/suite.h"
#include "restkv/compress.h"
#include "restkv/error.h"
#include "restkv/sparse.h"

namespace restkv::cli {
namespace {

/// What may stand as the value of an option.
struct Values {
  std::vector<std::string> words;
  bool files = false;
};

template <class List, class NameOf>
std::vector<std::string> names_of(const List& list, NameOf name_of) {
  std::vector<std::string> names;
  for (const auto& row : list) names.emplace_back(std::invoke(name_of, row));
  return names;
}

std::vector<std::string> names_of_everything_in_methods() {
  std::vector<std::string> names = names_of(methods(), &Method::name);
  for (const SparsePattern& pattern : sparse_patterns()) names.emplace_back(pattern.name);
  return names;
}

/// "f16|f32|auto" without what stands for numbers and texts ("N|auto").
std::vector<std::string> words_of(std::string_view value_name) {
  std::vector<std::string> words;
  while (!value_name.empty()) {
    const size_t end = std::min(value_name.find('|'), value_name.size());
    const std::string_view word = value_name.substr(0, end);
    value_name.remove_prefix(std::min(end + 1, value_name.size()));
    const auto is_plain = [](char c) {
      return std::islower(static_cast<unsigned char>(c)) != 0 ||
             std::isdigit(static_cast<unsigned char>(c)) != 0 || c == '-';
    };
    if (!word.empty() && std::ranges::all_of(word, is_plain)) words.emplace_back(word);
  }
  return words;
}

Values values_of(const Option& option) {
  const std::string name = option.name();
  if (!option.takes_value()) return {};
  if (name == "--method" || name == "--methods" || name == "--document-method") {
    return {.words = names_of(methods(), &Method::name)};
  }
  if (name == "--sparse") return {.words = names_of(sparse_patterns(), &SparsePattern::name)};
  if (name == "--recipe") {
    return {.words = names_of(eval::recipes(), &eval::Recipe::name), .files = true};
  }
  if (name == "suite") return {.words = names_of(eval::suites(), &eval::Suite::name)};
  if (name == "method") return {.words = names_of_everything_in_methods()};
  if (!option.texts().empty()) return {.words = option.texts()};
  const std::string value = option.value_name();
  const auto holds = [&](std::string_view word) { return value.find(word) != std::string::npos; };
  return {
      .words = words_of(value),
      .files = holds("FILE") || holds("DIR") || holds("DOC") || holds("PATH") || holds("MODEL")};
}

/// All of a command's options that the help shows, with `--help`.
struct Shown {
  std::vector<const Option*> options;
  Values positional;

  explicit Shown(const ArgumentParser& command) {
    for (const Option* option : command.options()) {
      if (option->is_hidden()) continue;
      if (!option->names().empty()) options.push_back(option);
      if (option->position_name().empty()) continue;
      const Values values = values_of(*option);
      positional.words.insert(positional.words.end(), values.words.begin(), values.words.end());
      positional.files = positional.files || values.files;
    }
  }
};

/// Texts that every command knows besides its options.
std::vector<std::string> help_names(const ArgumentParser& command) {
  std::vector<std::string> names{"--help"};
  if (command.has_rare()) names.emplace_back("--help-all");
  return names;
}

/// "help" and "version" are read before commands are.
std::vector<std::pair<std::string, std::string>> command_names(const ArgumentParser& program) {
  std::vector<std::pair<std::string, std::string>> names;
  for (const auto& command : program.commands()) {
    names.emplace_back(command->name(), command->summary());
  }
  names.emplace_back("help", "Show a command's options and examples");
  names.emplace_back("version", "Show the version");
  return names;
}

std::string replaced(std::string text, std::string_view what, std::string_view by) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size()) {
    text.replace(at, what.size(), by);
  }
  return text;
}

std::string quoted(const std::string& text) { return "'" + replaced(text, "'", R"('\'')") + "'"; }

std::string bash(const ArgumentParser& program) {
  std::vector<std::string> commands;
  for (const auto& [name, summary] : command_names(program)) commands.push_back(name);
  // Commands share most options: a pattern for all places with the same words.
  std::map<std::string, std::vector<std::string>> places;
  std::string options;
  std::string positional;
  for (const auto& command : program.commands()) {
    const Shown shown(*command);
    std::vector<std::string> names = help_names(*command);
    for (const Option* option : shown.options) {
      const Values values = values_of(*option);
      for (const std::string& name : option->names()) {
        if (name.starts_with("--")) names.push_back(name);
        if (!option->takes_value()) continue;
        const std::string action =
            fmt::format("{}{}", values.files ? "files " : "", fmt::join(values.words, " "));
        places[action].push_back(fmt::format("'{} {}'", command->name(), name));
      }
    }
    options += fmt::format("    {}) words='{}' ;;\n", command->name(), fmt::join(names, " "));
    if (!shown.positional.words.empty()) {
      positional += fmt::format("    {}) words='{}' ;;\n", command->name(),
                                fmt::join(shown.positional.words, " "));
    }
  }
  std::string values;
  for (const auto& [action, patterns] : places) {
    constexpr std::string_view kFiles = "files ";
    const bool files = action.starts_with(kFiles);
    values += fmt::format("    {}) {}words='{}' ;;\n", fmt::join(patterns, "|"),
                          files ? "files=1; " : "", action.substr(files ? kFiles.size() : 0));
  }
  return fmt::format(R"(# bash completion for restkv: source <(restkv completion bash)
_restkv() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}}
  local words='' files='' value=1
  if (( COMP_CWORD == 1 )) || [[ $command == help ]]; then
    COMPREPLY=( $(compgen -W '{}' -- "$cur") )
    return
  fi
  case "$command $prev" in
{}    *) value='' ;;
  esac
  if [[ -z $value && $cur == -* ]]; then
    case "$command" in
{}    esac
  elif [[ -z $value ]]; then
    files=1
    case "$command" in
{}    esac
  fi
  COMPREPLY=( $(compgen -W "$words" -- "$cur") )
  if [[ -n $files ]]; then
    compopt -o filenames 2>/dev/null
    local IFS=$'\n'
    COMPREPLY+=( $(compgen -f -- "$cur") )
  fi
}}
complete -F _restkv restkv
)",
                     fmt::join(commands, " "), values, options, positional);
}

/// A value for zsh's `_arguments`: ":NAME:ACTION".
std::string zsh_value(const Option& option) {
  if (!option.takes_value()) return "";
  const Values values = values_of(option);
  const std::string name = replaced(option.value_name(), ":", R"(\:)");
  if (values.files && values.words.empty()) return fmt::format(":{}:_files", name);
  if (values.words.empty()) return fmt::format(":{}: ", name);
  return fmt::format(":{}:({})", name, fmt::join(values.words, " "));
}

std::string zsh(const ArgumentParser& program) {
  std::string commands;
  for (const auto& [name, summary] : command_names(program)) {
    commands += fmt::format("    {}\n", quoted(fmt::format("{}:{}", name, summary)));
  }
  std::string cases;
  for (const auto& command : program.commands()) {
    const Shown shown(*command);
    cases += fmt::format("    {})\n      _arguments", command->name());
    for (const std::string& name : help_names(*command)) {
      cases += fmt::format(" \\\n        {}", quoted(name + "[show help]"));
    }
    for (const Option* option : shown.options) {
      std::string help = option->help();
      for (const char* special : {"\\", "[", "]", ":"}) {
        help = replaced(help, special, std::string("\\") + special);
      }
      const std::vector<std::string> names = option->names();
      for (const std::string& name : names) {
        cases +=
            fmt::format(" \\\n        {}", quoted(fmt::format("({}){}[{}]{}", fmt::join(names, " "),
                                                              name, help, zsh_value(*option))));
      }
    }
    cases += " \\\n        '*:argument:";
    cases += shown.positional.words.empty()
                 ? "_files"
                 : fmt::format("({})", fmt::join(shown.positional.words, " "));
    cases += "'\n      ;;\n";
  }
  return fmt::format(R"(#compdef restkv
# zsh completion for restkv: restkv completion zsh > ~/.zfunc/_restkv
_restkv() {{
  local -a commands=(
{}  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
{}    help) _describe command commands ;;
  esac
}}
if [ "$funcstack[1]" = _restkv ]; then _restkv "$@"; else compdef _restkv restkv; fi
)",
                     commands, cases);
}

std::string fish(const ArgumentParser& program) {
  std::string text =
      "# fish completion for restkv: restkv completion fish | source\n"
      "complete -c restkv -f\n";
  for (const auto& [name, summary] : command_names(program)) {
    for (const char* place : {"__fish_use_subcommand", "'__fish_seen_subcommand_from help'"}) {
      text += fmt::format("complete -c restkv -n {} -a {} -d {}\n", place, name, quoted(summary));
    }
  }
  for (const auto& command : program.commands()) {
    const Shown shown(*command);
    const std::string begin =
        fmt::format("complete -c restkv -n '__fish_seen_subcommand_from {}'", command->name());
    for (const std::string& name : help_names(*command)) {
      text += fmt::format("{} -l {} -d 'Show help'\n", begin, name.substr(2));
    }
    for (const Option* option : shown.options) {
      text += begin;
      for (const std::string& name : option->names()) {
        const bool is_long = name.starts_with("--");
        text += fmt::format(" -{} {}", is_long ? 'l' : 's', name.substr(is_long ? 2 : 1));
      }
      if (option->takes_value()) {
        const Values values = values_of(*option);
        text += values.files ? " -r -F" : " -x";
        if (!values.words.empty()) {
          text += fmt::format(" -a {}", quoted(fmt::format("{}", fmt::join(values.words, " "))));
        }
      }
      text += fmt::format(" -d {}\n", quoted(option->help()));
    }
    if (!shown.positional.words.empty()) {
      text += fmt::format("{} -a {}\n", begin,
                          quoted(fmt::format("{}", fmt::join(shown.positional.words, " "))));
    }
    if (shown.positional.files) text += fmt::format("{} -F\n", begin);
  }
  return text;
}

int complete(const std::string& shell) {
  ArgumentParser program(kProgram, kDescription);
  const auto actions = declare_all(program);
  print(shell == "bash" ? bash(program) : shell == "zsh" ? zsh(program) : fish(program));
  return kSuccess;
}

}  // namespace

std::function<int()> declare_completion(ArgumentParser& parser) {
  auto shell = std::make_shared<std::string>();
  parser.add("shell", *shell, "bash, zsh or fish", "bash|zsh|fish")
      .choices({"bash", "zsh", "fish"})
      .required();
  parser.set_footer(
      "Examples:\n"
      "  source <(restkv completion bash)                    # in ~/.bashrc\n"
      "  restkv completion zsh > ~/.zfunc/_restkv            # a folder of $fpath\n"
      "  restkv completion fish > ~/.config/fish/completions/restkv.fish");
  return [shell] { return complete(*shell); };
}

}  // namespace restkv::cli
