#pragma once

#include <cstddef>

namespace restkv::server {

/// Which of several prompts goes first: the one that would end first if each had been read alone
/// from its arrival on. So a short one overtakes a long one; but none that arrives later than a
/// prompt would have taken alone overtakes it, and nobody waits for ever.
///
/// `arrived`: seconds on any clock. `seconds_per_token`: measured. The smallest is first.
inline double prompt_order(double arrived, double remaining_tokens, double seconds_per_token) {
  return arrived + remaining_tokens * seconds_per_token;
}

}  // namespace restkv::server
