#pragma once

#include <CLI/CLI.hpp>
#include <string_view>

#include "eval/recipe.h"

namespace restkv::cli {

/// Gives the options of `app` the recipe's values, as if they stood on the command line. Options
/// that do stand there keep theirs. A recipe may hold options of `group` alone: those that say what
/// is asked, not where or on which machine. Throws `Error` (kInvalidArgument) naming recipe and key
/// of an unknown option and of a value that is none.
void apply_recipe(const eval::Recipe& recipe, CLI::App& app, std::string_view group);

}  // namespace restkv::cli
