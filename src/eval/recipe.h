#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/json.h"

/// Recipes: predefined runs for the ablations and comparisons of ReST-KV's paper, and user-defined
/// ones. A recipe is a JSON object with a `title`, optionally a `question` (that the run answers)
/// and a `source`, and options of `restkv eval` with their values:
///
///     {"title": "Moving average or mean", "suite": "ruler", "limit": 10, "budget": [64, 128],
///      "method": ["restkv", "restkv:temporal=mean"]}
namespace restkv::eval {

struct Recipe {
  std::string name;  ///< "temporal", or the path of a user's file.
  std::string title;
  std::string question;
  std::string source;
  Json options;  ///< Option name without dashes -> value; the command line checks them.
};

/// The embedded recipes of the folder `recipes`, by name.
std::span<const Recipe> recipes();

/// The recipe of that name or, if `name_or_file` ends in .json, of that file. Throws `Error`:
/// kInvalidArgument (no such name), kInput (the file cannot be read or is no recipe).
Recipe find_recipe(std::string_view name_or_file);

/// The recipe in a run's settings: name, title, question, source.
Json about(const Recipe& recipe);
/// The recipe in the form of a file, for a user to change.
Json to_json(const Recipe& recipe);

}  // namespace restkv::eval
