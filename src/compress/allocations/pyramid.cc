#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "compress/allocation.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Layer l keeps first - l * (first - last) / (layers - 1) candidates.
template <class Number>
struct Line {
  Number first;
  Number last;
};

/// The last layer gets share / beta, and the first layer is chosen so that the mean is the share.
/// If the first layer has too few candidates, it keeps all and the last layer gets the difference.
template <class Number>
Line<Number> pyramid_line(Number share, Number beta, Number candidates) {
  Number last = share / beta;
  Number first = 2 * share - last;
  if (first >= candidates) {
    first = candidates;
    last = 2 * share - first;
  }
  return {first, last};
}

/// Every layer's count on the line, rounded so that their sum is layers * share.
size_t balanced_count(Line<int64_t> line, size_t share, size_t layer, size_t layers) {
  const double step = static_cast<double>(line.first - line.last) / static_cast<double>(layers - 1);
  std::vector<double> counts(layers);
  for (size_t l = 0; l < layers; ++l) {
    counts[l] = static_cast<double>(line.first) - static_cast<double>(l) * step;
  }
  return apportion(counts, layers * share)[layer];
}

}  // namespace

void check_pyramid(const CompressionOptions& options) {
  if (options.pyramid_beta < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("pyramid_beta is {}; it must be 1 or more (20 is the authors' value)",
                            options.pyramid_beta));
  }
}

size_t kvpress_pyramid_tokens(double tokens, size_t length, size_t window, int beta, size_t layer,
                              size_t layers) {
  const auto n = static_cast<double>(length);
  const auto w = static_cast<double>(window);
  const auto line = pyramid_line(tokens, static_cast<double>(beta), n - w);
  const bool usable = n >= line.first && line.first >= line.last && line.last >= w;
  const double step = (line.first - line.last) / static_cast<double>(layers - 1);
  const double count = usable ? line.first - static_cast<double>(layer) * step : tokens;
  return static_cast<size_t>(std::nearbyint(count));  // half to even
}

size_t pyramid_count(const LayerObservation& layer, const LayerScores& scores, size_t share,
                     const CompressionOptions& options) {
  if (layer.layers < 2) return share;
  const size_t window = layer.keys.rows - scores.candidates;
  const size_t length = layer.tokens > 0 ? layer.tokens : layer.keys.rows;
  if (options.pyramid_variant == PyramidVariant::kKvpress) {
    const size_t tokens =
        kvpress_pyramid_tokens(static_cast<double>(share + window), length, window,
                               options.pyramid_beta, layer.layer, layer.layers);
    return std::min(tokens - std::min(tokens, window), scores.candidates);
  }
  if (options.pyramid_variant == PyramidVariant::kAuthors && length < 2 * share) return share;
  const auto line = pyramid_line(static_cast<int64_t>(share), int64_t{options.pyramid_beta},
                                 static_cast<int64_t>(length - window));
  if (options.pyramid_variant == PyramidVariant::kBalanced) {
    return balanced_count(line, share, layer.layer, layer.layers);
  }
  const auto step = (line.first - line.last) / static_cast<int64_t>(layer.layers - 1);
  return static_cast<size_t>(line.first - static_cast<int64_t>(layer.layer) * step);
}

Allocation pyramid_allocation() {
  Allocation allocation;
  allocation.name = "pyramid";
  allocation.over_layers = true;
  allocation.summary = "budgets fall linearly from the first layer to the last";
  allocation.paper =
      "PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling, "
      "arXiv 2406.02069";
  allocation.options = {"pyramid_variant", "pyramid_beta"};
  allocation.check = [](const CompressionOptions& options, const Method&) {
    check_pyramid(options);
  };
  allocation.allocate = [](const LayerObservation& layer, const LayerScores& scores, size_t share,
                           const CompressionOptions& options) {
    return std::vector<size_t>(scores.heads, pyramid_count(layer, scores, share, options));
  };
  return allocation;
}

}  // namespace restkv
