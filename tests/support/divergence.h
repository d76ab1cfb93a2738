#pragma once

#include <span>
#include <vector>

namespace restkv::testing {

/// log(sum(exp(logits))): a logit minus this is the logarithm of its probability.
double log_sum_exp(std::span<const float> logits);

/// Divergence of two sets of logits over the same vocabulary. A row is one position.
struct Divergence {
  double max_difference = 0;
  double kl_sum = 0;  ///< KL(softmax(reference) || softmax(other)), summed over rows.
  int rows = 0;
  std::vector<double> kl = {};  ///< Of each row.

  void add(std::span<const float> reference, std::span<const float> other);
  [[nodiscard]] double mean_kl() const { return kl_sum / rows; }
  [[nodiscard]] double median_kl() const;
};

}  // namespace restkv::testing
