#pragma once

#include <memory>

#include "fuzz/campaign.h"

namespace restkv::fuzz {

/// Sessions in this process: a model, an instruction set, options of the command line, and a script
/// of steps, `read:300 say:20 cut budget:40 sparse:sampled`. `say` feeds tokens one by one, as if
/// they had been answered. What must hold:
///
/// - *refusals*: an option that cannot be used is refused before anything is computed, and a step
///   that is refused leaves the session as it was; nothing but options is ever to blame;
/// - *bounds*: no more tokens than the budget (and the interval), windows no longer than they are,
///   positions in order;
/// - *repeated*: the same logits, bit by bit, with 1, 2 and 5 threads and whatever fresh memory
///   holds;
/// - *saved*: the same from a session that is saved and loaded, or forked, after each step;
/// - *windows*: a model whose layers all have windows computes the same with every budget and
///   method, and nearly the same with compact positions;
/// - *identity*: a budget that everything fits into is no budget.
std::unique_ptr<Kind> session_kind();

}  // namespace restkv::fuzz
