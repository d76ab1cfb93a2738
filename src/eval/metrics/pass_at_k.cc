#include "eval/metrics/pass_at_k.h"

#include <fmt/format.h>

#include "restkv/error.h"

namespace restkv::eval {

double pass_at_k(size_t n, size_t correct, size_t k) {
  if (correct > n || k == 0 || k > n) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("pass@{} of {} samples, {} of them correct, is not defined", k, n, correct));
  }
  if (n - correct < k) return 1;
  double none = 1;
  for (size_t i = n - correct + 1; i <= n; ++i) {
    none *= 1 - static_cast<double>(k) / static_cast<double>(i);
  }
  return 1 - none;
}

}  // namespace restkv::eval
