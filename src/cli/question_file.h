#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace restkv::cli {

struct Question {
  std::string id;  ///< Unique among those of a run.
  std::string text;
  std::optional<size_t> max_tokens = {};  ///< None: as for all others.
};

/// The questions of a file: JSON Lines with `question` (or `prompt`), `id` and `max_tokens`, or a
/// question on each line. The id of one without is its line's number. Throws `Error` (kInput)
/// naming file and line of a record that is none, an empty question and an id that stands twice.
std::vector<Question> read_questions(const std::string& path);

}  // namespace restkv::cli
