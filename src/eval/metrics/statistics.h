#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/random.h"

namespace restkv::eval {

/// Arithmetic mean; NaN without values.
double mean(std::span<const double> values);

/// Standard error of the mean: the sample standard deviation over sqrt(n), as
/// lm-evaluation-harness 0.4.13 has it. NaN for fewer than two values.
double mean_standard_error(std::span<const double> values);

struct Interval {
  double mean = 0;
  double low = 0;
  double high = 0;
};

struct BootstrapOptions {
  size_t resamples = 10000;
  double confidence = 0.95;
  uint64_t seed = 42;
};

/// A figure and its percentile bootstrap interval; `resampled` computes the figure from samples
/// drawn with replacement. The same seed gives the same result on every platform. Throws `Error`
/// (kInvalidArgument): no resamples, or a confidence outside (0, 1).
Interval bootstrap(double figure, const std::function<double(Random&)>& resampled,
                   const BootstrapOptions& options = {});

/// Mean of a[i] - b[i] and its percentile bootstrap interval. Pairs are drawn with replacement, so
/// that the difficulty of a sample cancels (Efron and Tibshirani, "An Introduction to the
/// Bootstrap", 1993, section 13.3). The same seed gives the same result on every platform. Throws
/// `Error` (kInvalidArgument): no pairs, different lengths, no resamples, or a confidence outside
/// (0, 1).
Interval paired_bootstrap(std::span<const double> a, std::span<const double> b,
                          const BootstrapOptions& options = {});

}  // namespace restkv::eval
