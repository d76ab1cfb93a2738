#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/threads.h"
#include "compress/allocation.h"
#include "compress/top_positions.h"
#include "restkv/error.h"

namespace restkv {
namespace {

void check(const CompressionOptions& options, const Method& method) {
  if (!(options.ada_floor >= 0.0 && options.ada_floor <= 1.0)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("ada_floor is {}; the share of every head must be between 0 and 1 "
                            "(0.2 is the authors' value)",
                            options.ada_floor));
  }
  if (method.score_kind == ScoreKind::kRank) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("allocation {} compares scores between heads, but method {} only orders "
                    "the positions of each head; choose the allocation uniform, pyramid or "
                    "profile",
                    options.allocation, options.method));
  }
  if (options.ada_normalize && method.score_kind == ScoreKind::kSigned) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("ada_normalize weighs heads by the mass of their scores, but scores of "
                            "method {} may be negative; set ada_normalize to false",
                            options.method));
  }
}

/// Share of the `count` largest values in the sum of a row; 1 if the sum is 0.
double concentration(std::span<const float> row, size_t count, TopPositions& top) {
  const double all = std::accumulate(row.begin(), row.end(), 0.0);
  if (all == 0.0) return 1.0;
  double best = 0.0;
  for (const int32_t position : top.find(row, count)) best += row[static_cast<size_t>(position)];
  return best / all;
}

/// Number of candidates of each head among the heads * share best of all heads together. In kvpress
/// the `safe` best of each head always win.
std::vector<size_t> compete(const LayerScores& scores, size_t share, size_t safe, bool normalize) {
  const size_t candidates = scores.candidates;
  std::vector<float> pool = scores.values;
  std::vector<TopPositions> top(static_cast<size_t>(num_threads()));
  parallel_for(scores.heads, [&](size_t h, size_t thread) {
    const std::span<float> row(pool.data() + h * candidates, candidates);
    if (normalize) {
      const auto weight = static_cast<float>(concentration(row, share, top[thread]));
      for (float& score : row) score *= weight;
    }
    for (const int32_t position : top[thread].find(row, safe)) {
      row[static_cast<size_t>(position)] = std::numeric_limits<float>::infinity();
    }
  });
  std::vector<size_t> counts(scores.heads, 0);
  for (const int32_t entry : top[0].find(pool, scores.heads * share)) {
    ++counts[static_cast<size_t>(entry) / candidates];
  }
  return counts;
}

/// `share` is the share of this layer.
std::vector<size_t> ada_counts(const LayerObservation& layer, const LayerScores& scores,
                               size_t share, const CompressionOptions& options) {
  share = std::min(share, scores.candidates);  // a layer may hold less after earlier evictions
  const double floor = options.ada_floor;
  if (options.ada_variant == AdaVariant::kKvpress) {
    // Protected positions count as safe.
    const size_t window = layer.keys.rows - scores.candidates;
    const auto safe =
        std::max(size_t{1}, static_cast<size_t>(static_cast<double>(share + window) * floor));
    return compete(scores, share, std::min(safe - std::min(safe, window), share),
                   options.ada_normalize);
  }
  std::vector<size_t> counts = compete(scores, share, 0, options.ada_normalize);
  const double base = static_cast<double>(share) * floor;
  if (options.ada_variant == AdaVariant::kAuthors) {
    for (size_t& count : counts) {
      const auto blend = static_cast<float>(static_cast<double>(count) * (1.0 - floor));
      count = static_cast<size_t>(std::nearbyint(blend + std::floor(static_cast<float>(base))));
    }
    return counts;
  }
  std::vector<double> blends;
  blends.reserve(counts.size());
  for (const size_t count : counts) {
    blends.push_back(static_cast<double>(count) * (1.0 - floor) + base);
  }
  return apportion(blends, scores.heads * share);
}

constexpr std::string_view kPaper =
    "Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient LLM "
    "Inference, arXiv 2407.11550";

}  // namespace

Allocation ada_allocation() {
  Allocation allocation;
  allocation.name = "ada";
  allocation.summary = "heads of a layer compete for its budget with their scores, above a floor";
  allocation.paper = kPaper;
  allocation.options = {"ada_variant", "ada_floor", "ada_normalize"};
  allocation.check = check;
  allocation.allocate = ada_counts;
  return allocation;
}

Allocation ada_pyramid_allocation() {
  Allocation allocation = ada_allocation();
  allocation.name = "ada-pyramid";
  allocation.over_layers = true;
  allocation.summary = "pyramid over the layers, ada over the heads of each";
  const Allocation pyramid = pyramid_allocation();
  allocation.options.insert(allocation.options.begin(), pyramid.options.begin(),
                            pyramid.options.end());
  allocation.check = [](const CompressionOptions& options, const Method& method) {
    check_pyramid(options);
    check(options, method);
  };
  allocation.allocate = [](const LayerObservation& layer, const LayerScores& scores, size_t share,
                           const CompressionOptions& options) {
    return ada_counts(layer, scores, pyramid_count(layer, scores, share, options), options);
  };
  return allocation;
}

}  // namespace restkv
