#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/json.h"

/// Ready runs: the ablations and comparisons of ReST-KV's paper, and whatever a user writes down in
/// the same form. A recipe is a JSON object with a `title`, optionally a `question` (what the run
/// answers) and a `source` (where it comes from), and besides these the names of options of
/// `restkv eval` with their values:
///
///     {"title": "Moving average or mean", "suite": "ruler", "limit": 10, "budget": [64, 128],
///      "method": ["restkv", "restkv:temporal=mean"]}
namespace restkv::eval {

struct Recipe {
  std::string name;  ///< "temporal"; of a user's own recipe the path of its file.
  std::string title;
  std::string question;
  std::string source;
  Json options;  ///< Option name without dashes -> value; what they may be, the CLI knows.
};

/// Those of the folder recipes, which are part of the program, by name.
std::span<const Recipe> recipes();

/// The recipe of that name or, where `name_or_file` ends in .json, in that file. Throws `Error`:
/// kInvalidArgument (no such name), kInput (the file cannot be read or is no recipe).
Recipe find_recipe(std::string_view name_or_file);

/// What a run's settings say of its recipe: name, title, question, source.
Json about(const Recipe& recipe);
/// The recipe as a file would hold it, for a user to change.
Json to_json(const Recipe& recipe);

}  // namespace restkv::eval
