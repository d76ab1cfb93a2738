#include "compress/critical.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/threads.h"
#include "compress/top_positions.h"
#include "restkv/aligned.h"
#include "restkv/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/critical.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "base/gemm-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// Output channels per product, so that a strip of results stays in the L1 cache.
constexpr size_t kChannels = 4 * kTileRows;

/// norms[p] += ||W v_p||_1 for a tile of at most kTilePositions values; W is [width, d].
void AddProjectedNorms(const Matrix<const float>& w, const Matrix<const float>& values,
                       float* HWY_RESTRICT norms) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const size_t width = (values.rows + lanes - 1) / lanes * lanes;
  AlignedVector<float> tile(values.cols * kTilePositions);
  HWY_ALIGN float strip[kChannels * kTilePositions];
  HWY_ALIGN float sums[kTilePositions] = {};
  TransposePadded(values.data, values.rows, values.cols, values.stride, tile.data(), kTilePositions,
                  kTilePositions);
  for (size_t channel = 0; channel < w.rows; channel += kChannels) {
    const size_t rows = HWY_MIN(kChannels, w.rows - channel);
    SmallProduct<false>(d, rows, width, w.cols, w.row(channel), w.stride, tile.data(),
                        kTilePositions, strip, kTilePositions);
    for (size_t p = 0; p < width; p += lanes) {
      auto sum = hn::Load(d, sums + p);
      for (size_t r = 0; r < rows; ++r) {
        sum = hn::Add(sum, hn::Abs(hn::Load(d, strip + r * kTilePositions + p)));
      }
      hn::Store(sum, d, sums + p);
    }
  }
  for (size_t p = 0; p < values.rows; ++p) norms[p] += sums[p];
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {
namespace {

HWY_EXPORT(AddProjectedNorms);

constexpr size_t kTile = 64;

/// ||W_h v||_1 of every candidate, averaged over the query heads of one cache head.
void projected_norms(const LayerObservation& layer, size_t cache_head, size_t heads,
                     std::span<float> norms) {
  const size_t group = layer.queries.heads / heads;
  const size_t kv_head = cache_head * layer.keys.heads / heads;
  const size_t dim = layer.values.dim;
  const Matrix<const float> values = layer.values.head(kv_head);
  const Matrix<const float>& wo = layer.output_weights;
  std::fill(norms.begin(), norms.end(), 0.0F);
  parallel_for((norms.size() + kTile - 1) / kTile, [&](size_t task, size_t) {
    const size_t begin = task * kTile;
    const size_t count = std::min(kTile, norms.size() - begin);
    for (size_t h = cache_head * group; h < (cache_head + 1) * group; ++h) {
      HWY_DYNAMIC_DISPATCH(AddProjectedNorms)
      ({wo.data + h * dim, wo.rows, dim, wo.stride}, values.slice(begin, count), &norms[begin]);
    }
    for (size_t p = begin; p < begin + count; ++p) norms[p] /= static_cast<float>(group);
  });
}

}  // namespace

void check_critical(const CompressionOptions& options, const Method& method) {
  const auto refuse = [](const std::string& message) {
    throw Error(ErrorCode::kInvalidArgument, message);
  };
  if (!(options.critical_ratio >= 0.0 && options.critical_ratio <= 1.0)) {
    refuse(
        fmt::format("critical_ratio is {}; it is a part of the budget, between 0 and 1 (0.5 is "
                    "the authors' value)",
                    options.critical_ratio));
  }
  if (!(options.critical_epsilon >= 0.0 && std::isfinite(options.critical_epsilon))) {
    refuse(
        fmt::format("critical_epsilon is {}; it must be 0 or a positive number (0.0001 is the "
                    "authors' value)",
                    options.critical_epsilon));
  }
  if (method.score_kind != ScoreKind::kMass) {
    refuse(
        fmt::format("critical multiplies scores by norms, but scores of method {} may be "
                    "negative or infinite; leave critical out or choose another method",
                    options.method));
  }
}

void apply_critical(const LayerObservation& layer, std::span<const size_t> counts,
                    const CompressionOptions& options, LayerScores& scores) {
  const size_t window = layer.keys.rows - scores.candidates;
  const auto epsilon = static_cast<float>(options.critical_epsilon);
  std::vector<float> norms(scores.candidates);
  TopPositions top;
  for (size_t h = 0; h < scores.heads; ++h) {
    projected_norms(layer, h, scores.heads, norms);
    const std::span<float> row = scores.rows().row_span(h);
    const auto safe =
        static_cast<size_t>(static_cast<double>(counts[h] + window) * options.critical_ratio);
    const auto best = top.find(row, std::min(safe - std::min(safe, window), counts[h]));
    for (size_t n = 0; n < row.size(); ++n) row[n] = (row[n] + epsilon) * norms[n];
    for (const int32_t position : best) {
      row[static_cast<size_t>(position)] = std::numeric_limits<float>::max();
    }
  }
}

}  // namespace restkv
#endif
