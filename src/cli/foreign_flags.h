#pragma once

#include <string>
#include <vector>

#include "cli/argument_parser.h"

namespace restkv::cli {

/// For `ArgumentParser::set_translation`: what llama.cpp and ollama call otherwise becomes what it
/// is called here, and "_" in a name "-". What has no use here is left out, and a line on standard
/// error says why. Throws `Error` (kInvalidArgument) on what changes answers and is not to be had,
/// naming what is. `words`: behind the command's name. What the command knows itself stays.
std::vector<std::string> translate_foreign_flags(std::vector<std::string> words,
                                                 ArgumentParser& command);

}  // namespace restkv::cli
