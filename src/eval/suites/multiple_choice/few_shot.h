#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "eval/suite.h"

/// Solved questions in front of the one that is asked.
namespace restkv::eval {

struct FewShot {
  size_t shots = 0;
  uint64_t seed = 0;
  std::string delimiter;  ///< Between the examples and before the question.
};

/// `task` with that many examples, context and right choice, before every question. They are drawn
/// for every question anew (by seed, task and the question's index) from `examples`: a task of its
/// own or, with the same file, the whole of `task`, where the question itself is left out. Throws
/// `Error` (kInvalidArgument) if there are not enough.
std::unique_ptr<Task> with_examples(std::unique_ptr<Task> task, std::unique_ptr<Task> examples,
                                    const FewShot& few_shot);

}  // namespace restkv::eval
