#include "eval/metrics/statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "base/random.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Quantile `q` of sorted values, with linear interpolation.
double quantile(std::span<const double> sorted, double q) {
  const double at = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], at - static_cast<double>(below));
}

}  // namespace

double mean(std::span<const double> values) {
  if (values.empty()) return kNaN;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double mean_standard_error(std::span<const double> values) {
  if (values.size() < 2) return kNaN;
  const double center = mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - center) * (value - center);
  const auto n = static_cast<double>(values.size());
  return std::sqrt(squares / (n - 1)) / std::sqrt(n);
}

Interval bootstrap(double figure, const std::function<double(Random&)>& resampled,
                   const BootstrapOptions& options) {
  const bool in_range = options.confidence > 0 && options.confidence < 1;  // false for NaN
  if (options.resamples == 0 || !in_range) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a bootstrap with {} resamples at confidence {} is not possible; it "
                            "needs resamples, and a confidence in (0, 1)",
                            options.resamples, options.confidence));
  }
  Random random(options.seed);
  std::vector<double> figures(options.resamples);
  for (double& again : figures) again = resampled(random);
  std::sort(figures.begin(), figures.end());
  const double tail = (1 - options.confidence) / 2;
  return {figure, quantile(figures, tail), quantile(figures, 1 - tail)};
}

Interval paired_bootstrap(std::span<const double> a, std::span<const double> b,
                          const BootstrapOptions& options) {
  if (a.empty() || a.size() != b.size()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a bootstrap of {} and {} values is not possible; it needs pairs",
                            a.size(), b.size()));
  }
  std::vector<double> differences(a.size());
  std::transform(a.begin(), a.end(), b.begin(), differences.begin(), std::minus<>());
  return bootstrap(
      mean(differences),
      [&](Random& random) {
        double sum = 0;
        for (size_t i = 0; i < differences.size(); ++i) sum += random.pick(differences);
        return sum / static_cast<double>(differences.size());
      },
      options);
}

}  // namespace restkv::eval
