#pragma once

#include <memory>

#include "fuzz/campaign.h"

namespace restkv::fuzz {

/// The command line from outside: `run` and `chat` with options of all kinds, sensible and not, and
/// what a chat is told, a line each: `<hello`, `</budget 40`, or `<words:60` for so many words.
/// What must hold:
///
/// - *exit*: exit code 0, 1 or 2 in time, and a message of the program's own if it is not 0;
/// - *refusals*: what is refused is refused before an answer is begun, and looks the same with a
///   model that computes nothing but NaN;
/// - *repeated*: the same answer with another number of threads and whatever fresh memory holds;
/// - *saved*: a chat that saves, forgets and loads its conversation after each turn says the same.
std::unique_ptr<Kind> command_kind();

}  // namespace restkv::fuzz
