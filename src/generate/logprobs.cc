#include "generate/logprobs.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace restkv {

LogProbabilities::LogProbabilities(std::span<const float> logits) : logits_(logits) {
  const double largest = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float z : logits) sum += std::exp(static_cast<double>(z) - largest);
  log_sum_ = largest + std::log(sum);
}

bool LogProbabilities::is_likeliest(int32_t token) const {
  return *std::ranges::max_element(logits_) <= logits_[static_cast<size_t>(token)];
}

TokenLogprob logprob_of(int32_t token, std::span<const float> logits, size_t likeliest) {
  const LogProbabilities p(logits);
  TokenLogprob result{.token = token, .logprob = p.of(token), .likeliest = {}};
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto end = order.begin() + static_cast<std::ptrdiff_t>(std::min(likeliest, order.size()));
  std::partial_sort(order.begin(), end, order.end(), [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)];
    const float y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  for (auto other = order.begin(); other != end; ++other) {
    result.likeliest.emplace_back(*other, p.of(*other));
  }
  return result;
}

}  // namespace restkv
