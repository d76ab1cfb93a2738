#include "support/divergence.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace restkv::testing {

double log_sum_exp(std::span<const float> logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - top);
  return top + std::log(sum);
}

void Divergence::add(std::span<const float> reference, std::span<const float> other) {
  const double p_total = log_sum_exp(reference);
  const double q_total = log_sum_exp(other);
  double sum = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double p = reference[i] - p_total;
    const double q = other[i] - q_total;
    sum += std::exp(p) * (p - q);
    max_difference =
        std::max(max_difference, std::abs(static_cast<double>(reference[i]) - other[i]));
  }
  kl_sum += sum;
  kl.push_back(sum);
  ++rows;
}

double Divergence::median_kl() const {
  std::vector<double> sorted = kl;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return *middle;
}

}  // namespace restkv::testing
