// What the observation window is scored with: denominators that attention has left, and products in
// fewer bits.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "attention/attention_precision.h"
#include "compress/reference.h"
#include "restkv/attention.h"
#include "restkv/compress.h"
#include "support/simd.h"

namespace restkv {
namespace {

using testing::RandomLayer;

constexpr size_t kHeads = 6;
constexpr size_t kKvHeads = 2;
constexpr size_t kLength = 1500;
constexpr size_t kWindow = 32;

std::vector<CompressionOptions> variants() {
  std::vector<CompressionOptions> all;
  for (const std::string_view method : {"restkv", "snapkv"}) {
    all.push_back(default_options(method));
    all.back().budget = 200;
    all.back().drift_scale = 50;  // so that the window follows the attention
  }
  all.push_back(all.front());
  all.back().own["order"] = "before";
  all.push_back(all.front());
  all.back().kernel = 5;
  return all;
}

/// What the attention of a prompt's last block leaves of the window's queries.
struct LastBlock {
  std::vector<float> lse, outputs;

  explicit LastBlock(const LayerObservation& layer)
      : lse(kHeads * kWindow), outputs(kHeads * kWindow * layer.values.dim) {
    prefill_attention(
        layer.queries.slice_rows(layer.queries.rows - kWindow, kWindow), layer.keys, layer.values,
        kLength - kWindow, {.softcap = layer.softcap, .precision = layer.precision},
        {outputs.data(), kHeads, kWindow, layer.values.dim}, {lse.data(), kHeads, kWindow});
  }
  [[nodiscard]] LayerObservation given(LayerObservation layer) const {
    layer.queries = layer.queries.slice_rows(layer.queries.rows - kWindow, kWindow);
    layer.lse = {lse.data(), kHeads, kWindow};
    layer.outputs = {outputs.data(), kHeads, kWindow, layer.values.dim};
    return layer;
  }
};

double relative_error(const std::vector<std::vector<float>>& actual,
                      const std::vector<std::vector<float>>& expected) {
  double error = 0;
  double square = 0;
  for (size_t h = 0; h < expected.size(); ++h) {
    for (size_t i = 0; i < expected[h].size(); ++i) {
      error += std::pow(double{actual[h][i]} - expected[h][i], 2);
      square += std::pow(double{expected[h][i]}, 2);
    }
  }
  return std::sqrt(error / square);
}

/// Share of the positions that both keep.
double common(const Selection& a, const Selection& b) {
  size_t both = 0;
  size_t all = 0;
  for (size_t h = 0; h < a.keep.size(); ++h) {
    std::vector<int32_t> shared;
    std::ranges::set_intersection(a.keep[h], b.keep[h], std::back_inserter(shared));
    both += shared.size();
    all += a.keep[h].size();
  }
  return static_cast<double>(both) / static_cast<double>(all);
}

TEST(WindowPrecisionTest, DenominatorsAndOutputsMayBeGivenOrComputed) {
  for (const float softcap : {0.0F, 20.0F}) {
    RandomLayer layer(kHeads, kKvHeads, kLength, 64, 40, 96, 3);
    layer.view.softcap = softcap;
    const LastBlock block(layer.view);
    for (const CompressionOptions& options : variants()) {
      SelectionTrace with;
      SelectionTrace without;
      const Selection a = select_tokens(block.given(layer.view), options, &with);
      const Selection b = select_tokens(layer.view, options, &without);
      EXPECT_LE(relative_error(with.raw, without.raw), 1e-5) << options.method;
      EXPECT_GE(common(a, b), 0.99) << options.method;  // near ties may go the other way
    }
  }
}

TEST(WindowPrecisionTest, FewerBitsKeepNearlyTheSame) {
  for (const size_t dim : {64, 128}) {
    RandomLayer layer(kHeads, kKvHeads, kLength, dim, 40, 96, 4);
    for (const CompressionOptions& options : variants()) {
      SelectionTrace exact;
      const Selection expected = select_tokens(layer.view, options, &exact);
      for (const int64_t target : testing::simd_targets()) {
        const testing::ForcedSimdTarget forced(target);
        for (const auto precision : {AttentionPrecision::kBf16, AttentionPrecision::kInt8}) {
          if (!supports(precision)) continue;
          LayerObservation rounded = layer.view;
          rounded.precision = precision;
          const LastBlock block(rounded);
          for (const LayerObservation& view : {rounded, block.given(rounded)}) {
            SelectionTrace trace;
            const Selection actual = select_tokens(view, options, &trace);
            const double error = relative_error(trace.raw, exact.raw);
            EXPECT_LE(error, precision == AttentionPrecision::kBf16 ? 0.02 : 0.06)
                << testing::simd_target_name(target) << ", " << options.method << ", dim " << dim;
            EXPECT_GT(error, 1e-7) << "nothing was rounded";
            EXPECT_GE(common(actual, expected), 0.9) << options.method;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace restkv
