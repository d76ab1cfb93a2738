#include "cli/settings_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string_view>
#include <system_error>

#include "base/closest_name.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/numbered_lines.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

namespace fs = std::filesystem;

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// Empty: there is none.
std::string settings_path() {
  if (const std::string named = variable("RESTKV_CONFIG"); !named.empty()) return named;
  std::string folder = variable("XDG_CONFIG_HOME");
  if (folder.empty()) {
    const std::string home = variable("HOME");
    if (home.empty()) return {};
    folder = home + "/.config";
  }
  const std::string path = folder + "/restkv/config";
  std::error_code ignored;
  return fs::exists(path, ignored) ? path : "";
}

[[noreturn]] void refuse(const std::string& place, const std::string& reason) {
  throw Error(ErrorCode::kInput, fmt::format("{}: {}", place, reason));
}

/// The options that the words name.
std::set<const Option*> given_in(const std::vector<std::string>& words, ArgumentParser& command) {
  std::set<const Option*> given;
  for (size_t i = 0; i < words.size() && words[i] != "--"; ++i) {
    const std::string& word = words[i];
    if (word.size() < 2 || word[0] != '-') continue;
    const size_t end = word[1] != '-' ? 2 : std::min(word.find('='), word.size());
    const Option* option = command.find_typed(word.substr(0, end));
    if (option == nullptr) continue;
    given.insert(option);
    if (end == word.size() && option->takes_value() && !option->may_lack_value()) ++i;
  }
  return given;
}

}  // namespace

std::vector<Setting> read_settings() {
  const std::string path = settings_path();
  if (path.empty()) return {};
  const std::string text = to_utf8(read_file(path), path);
  std::vector<Setting> settings;
  std::string command;
  for_each_line(text, path, [&](std::string_view line, size_t number) {
    if (line.starts_with('#')) return;
    if (line.starts_with('[') && line.ends_with(']')) {
      command = trimmed(line.substr(1, line.size() - 2));
      return;
    }
    const size_t equals = std::min(line.find('='), line.size());
    std::string option(trimmed(line.substr(0, equals)));
    if (option.starts_with("--")) option.erase(0, 2);
    const std::string value(trimmed(line.substr(std::min(equals + 1, line.size()))));
    if (option.empty() || value.empty()) {
      throw Error(ErrorCode::kInput, "is no setting; write OPTION = VALUE");
    }
    settings.push_back({command, option, value, fmt::format("{}:{}", path, number)});
  });
  return settings;
}

void check_settings(const std::vector<Setting>& settings, const ArgumentParser& program) {
  for (const Setting& setting : settings) {
    std::vector<std::string> commands;
    std::vector<std::string> options;
    bool known = false;
    bool has_command = setting.command.empty();
    for (const auto& command : program.commands()) {
      commands.push_back(command->name());
      if (!setting.command.empty() && setting.command != command->name()) continue;
      has_command = true;
      known = known || command->find_typed("--" + setting.option) != nullptr;
      for (const Option* option : command->options()) {
        if (option->is_positional() || option->is_hidden()) continue;
        options.push_back(option->name().substr(2));
      }
    }
    const auto guess = [](const std::string& name, const std::vector<std::string>& names) {
      return did_you_mean(name, std::vector<std::string_view>(names.begin(), names.end()));
    };
    if (!has_command) {
      refuse(setting.place, fmt::format("there is no command '{}'{}", setting.command,
                                        guess(setting.command, commands)));
    }
    if (!known) {
      refuse(setting.place, fmt::format("there is no option '{}'{}", setting.option,
                                        guess(setting.option, options)));
    }
  }
}

std::vector<std::string> with_settings(const std::vector<Setting>& settings,
                                       std::vector<std::string> words, ArgumentParser& command) {
  std::set<const Option*> given = given_in(words, command);
  std::vector<std::string> added;
  // What is said of the command alone wins over what is said of all.
  for (const std::string& of : {command.name(), std::string()}) {
    for (const Setting& setting : settings) {
      if (setting.command != of) continue;
      const Option* option = command.find_typed("--" + setting.option);
      if (option == nullptr || !given.insert(option).second) continue;
      const std::string name = "--" + setting.option;
      if (option->takes_value()) {
        added.push_back(fmt::format("{}={}", name, setting.value));
      } else if (setting.value == "true") {
        added.push_back(name);
      } else if (setting.value != "false") {
        refuse(setting.place,
               fmt::format("'{}' is '{}'; expected true or false", setting.option, setting.value));
      }
    }
  }
  added.insert(added.end(), words.begin(), words.end());
  return added;
}

}  // namespace restkv::cli
