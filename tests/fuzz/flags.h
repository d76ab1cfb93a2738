#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/argument_parser.h"
#include "fuzz/campaign.h"

/// Flags for random command lines, taken from what the program itself declares: an option that is
/// new is tried from the day it is there.
namespace restkv::fuzz {

struct Flag {
  std::string name;   ///< "kv-type"
  std::string takes;  ///< What the help says: "N", "X", "FILE", "f16|f32|q8|q4"; empty: no value.
};

/// Options of a command but `--help`.
std::vector<Flag> flags_of(const cli::ArgumentParser& parser);

/// "--name=value", with a value that makes sense more often than not.
std::string usual(Random& random, const Flag& flag, const std::string& model);
/// "--name=value", with a value that nobody should give.
std::string odd(Random& random, const Flag& flag);

/// A method, options that it reads, and some of the other `flags`.
std::vector<std::string> session_words(Random& random, const std::vector<Flag>& flags,
                                       const std::string& model);

/// The value of the last "--name=value" in a case; empty if there is none.
std::string value_of(const Case& words, std::string_view name);

}  // namespace restkv::fuzz
