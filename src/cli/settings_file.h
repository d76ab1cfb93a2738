#pragma once

#include <string>
#include <vector>

#include "cli/argument_parser.h"

/// What somebody always wants, in a file: options by name, for all commands that have them or,
/// below a line with a command's name in brackets, for that one.
///
///     model = /models/qwen3.gguf
///     [chat]
///     temp = 0.5
namespace restkv::cli {

struct Setting {
  std::string command;  ///< Empty: all that have the option.
  std::string option;   ///< "temp"
  std::string value;
  std::string place;  ///< "config:3", for messages.
};

/// The settings of $RESTKV_CONFIG or else of restkv/config in $XDG_CONFIG_HOME (~/.config); none if
/// there is no such file. Throws `Error` (kInput) naming a line that is none, and a file that is
/// named and cannot be read.
std::vector<Setting> read_settings();

/// Throws `Error` (kInput) naming a setting of a command or an option that there is not.
void check_settings(const std::vector<Setting>& settings, const ArgumentParser& program);

/// `words`, behind the name of `command`, with the settings for it that they do not say otherwise.
std::vector<std::string> with_settings(const std::vector<Setting>& settings,
                                       std::vector<std::string> words, ArgumentParser& command);

}  // namespace restkv::cli
