#pragma once

#include <cstddef>

namespace restkv::eval {

/// Probability that one of `k` samples solves a problem, estimated without bias from `n` samples of
/// which `correct` solve it: 1 - C(n - correct, k) / C(n, k). Source: openai/human-eval.
/// Throws Error(kInvalidArgument) unless correct <= n and 1 <= k <= n.
double pass_at_k(size_t n, size_t correct, size_t k);

}  // namespace restkv::eval
