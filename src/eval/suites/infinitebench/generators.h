#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "base/json.h"

/// The six InfiniteBench tasks that are made by a program: records of the same form as those of the
/// released files, at any size (OpenBMB/InfiniteBench, data/construct_synthetic_dataset.py; the
/// random choices are this project's own).
namespace restkv::eval {

/// Which record to make. The same request gives the same record on every platform.
struct GeneratedRecord {
  size_t index = 0;    ///< Below `records`.
  size_t records = 0;  ///< Depths, layers and kinds of question are spread evenly over so many.
  size_t size = 0;     ///< In the unit of the task, at least `smallest`.
  uint64_t seed = 42;
};

struct InfiniteBenchGenerator {
  std::string_view task;  ///< "passkey", "number_string", ...
  std::string_view unit;  ///< What `size` counts: "noise lines", "pairs", ...
  size_t size = 0;        ///< As in the released set or the published generator.
  size_t smallest = 0;
  size_t records = 0;  ///< As in the released set.
  /// {"id", "context", "input", "answer", "options"}, as a line of the task's file.
  Json (*make)(const GeneratedRecord& request);
};

std::span<const InfiniteBenchGenerator> infinitebench_generators();

/// nullptr if the task is not a generated one.
const InfiniteBenchGenerator* find_infinitebench_generator(std::string_view task);

/// The largest size whose first record has at most `limit` tokens, where `count_tokens` gives those
/// of the whole prompt made from a record; called about half a dozen times. Throws
/// Error(kInvalidArgument) if not even `smallest` fits.
size_t fit_infinitebench(const InfiniteBenchGenerator& generator, size_t limit, uint64_t seed,
                         const std::function<size_t(const Json& record)>& count_tokens);

}  // namespace restkv::eval
