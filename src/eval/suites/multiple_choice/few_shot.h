#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "eval/suite.h"

/// Few-shot prompts: solved examples before the question.
namespace restkv::eval {

struct FewShot {
  size_t shots = 0;
  uint64_t seed = 0;
  std::string delimiter;  ///< Between the examples and before the question.
};

/// `task` with examples, that is, contexts with right choices, before every question. Each question
/// gets a new draw (by seed, task and the question's index) from `examples`: another task or, with
/// the same file, all of `task` but the question. Throws `Error` (kInvalidArgument) if there are
/// too few.
std::unique_ptr<Task> with_examples(std::unique_ptr<Task> task, std::unique_ptr<Task> examples,
                                    const FewShot& few_shot);

}  // namespace restkv::eval
