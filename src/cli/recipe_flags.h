#pragma once

#include <string_view>

#include "cli/argument_parser.h"
#include "eval/recipe.h"

namespace restkv::cli {

/// Gives the options of `parser` the recipe's values, as if they stood on the command line. Options
/// that do stand there keep theirs. A recipe may hold options of `group` alone: those that say what
/// is asked, not where or on which machine. Throws `Error` (kInvalidArgument) naming recipe and key
/// of an unknown option and of a value that is none.
void apply_recipe(const eval::Recipe& recipe, ArgumentParser& parser, std::string_view group);

}  // namespace restkv::cli
