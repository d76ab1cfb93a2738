#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "base/json.h"

/// Generators of the six synthetic InfiniteBench tasks: records in the format of the released
/// files, at any size (OpenBMB/InfiniteBench, data/construct_synthetic_dataset.py, with other
/// random numbers).
namespace restkv::eval {

/// Request of a record. The same request gives the same record on every platform.
struct GeneratedRecord {
  size_t index = 0;    ///< Below `records`.
  size_t records = 0;  ///< Depths, layers and kinds of question are spread evenly over this number.
  size_t size = 0;     ///< In the unit of the task, at least `smallest`.
  uint64_t seed = 42;
};

struct InfiniteBenchGenerator {
  std::string_view task;  ///< "passkey", "number_string", ...
  std::string_view unit;  ///< Unit of `size`: "noise lines", "pairs", ...
  size_t size = 0;        ///< As in the released set or the published generator.
  size_t smallest = 0;
  size_t records = 0;  ///< As in the released set.
  /// {"id", "context", "input", "answer", "options"}, as a line of the task's file.
  Json (*make)(const GeneratedRecord& request);
};

std::span<const InfiniteBenchGenerator> infinitebench_generators();

/// The generator of a task; nullptr for other tasks.
const InfiniteBenchGenerator* find_infinitebench_generator(std::string_view task);

/// The largest size whose first record has at most `limit` tokens. `count_tokens` counts the whole
/// prompt of a record and is called about half a dozen times. Throws `Error` (kInvalidArgument) if
/// `smallest` does not fit.
size_t fit_infinitebench(const InfiniteBenchGenerator& generator, size_t limit, uint64_t seed,
                         const std::function<size_t(const Json& record)>& count_tokens);

}  // namespace restkv::eval
