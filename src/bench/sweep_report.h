#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "bench/sweep.h"

/// What a sweep found out, to be read and to be computed with.
namespace restkv::bench {

/// One object per case: its parameters, the best figure of all runs, and the share of the machine's
/// limit that bounds it. Figures that were not measured are left out.
Json figures(const Sweep& sweep);

/// For terminals: a line per case.
std::string table(const Sweep& sweep);
/// A line per case, with a heading; the keys of `figures`.
std::string csv(const Sweep& sweep);
/// Curves over the prompt length (or over budgets or threads, where the length is always the same):
/// time to the first token, decoding speed, memory. `subtitle`: model and machine.
std::string svg(const Sweep& sweep, std::string_view subtitle);

}  // namespace restkv::bench
