#pragma once

#include <fmt/format.h>

#include <string>

namespace restkv::eval {

/// 0.5 as "50%".
inline std::string percent(double share) { return fmt::format("{:.3g}%", 100 * share); }

}  // namespace restkv::eval
