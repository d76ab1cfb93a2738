#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "bench/sweep.h"

/// Reports of a sweep, for readers and for programs.
namespace restkv::bench {

/// One object per case: its parameters, the best figures of all runs, and their shares of the
/// machine's limits. Figures that were not measured are left out.
Json figures(const Sweep& sweep);

/// A table for terminals, with a line per case. Shares of the machine's limits are left out.
std::string table(const Sweep& sweep);
/// A line per case, with a heading; the keys of `figures`.
std::string csv(const Sweep& sweep);
/// Curves of the time to the first token, decoding speed and memory over the prompt length (over
/// budgets or threads if all lengths are equal). `subtitle` names model and machine.
std::string svg(const Sweep& sweep, std::string_view subtitle);

}  // namespace restkv::bench
