#pragma once

#include <memory>

#include "fuzz/campaign.h"

namespace restkv::fuzz {

/// Several sessions of one model in one batch, each with options of its own (`2--method=snapkv`),
/// and a script of steps for one of them (`2:read:300 2:join 2:leave 2:fork 2:save 2:cut
/// 2:budget:40`) or for the batch (`say:5`). `2:join:7` ends by itself after 7 tokens. `2:slow:100`
/// reads a prompt that pauses after each of its steps for a step of the batch. What must hold:
///
/// - *together*: each session computes the same, bit by bit, and keeps the same positions as alone
///   with the same steps, whoever else is there, with however many threads and whatever fresh
///   memory holds. With `level:sequences` below sessions, where prompts and the batch share one
///   workspace.
std::unique_ptr<Kind> together_kind();

}  // namespace restkv::fuzz
