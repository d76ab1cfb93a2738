#include "compress/finite.h"

#include <fmt/format.h>

#include <cmath>

#include "base/threads.h"
#include "restkv/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/finite.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

bool AllFinite(Matrix<const float> rows) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const auto zero = hn::Zero(d);
  auto poison = zero;  // x * 0 is 0 for every finite x and NaN otherwise
  float tail = 0.0F;
  for (size_t r = 0; r < rows.rows; ++r) {
    const float* HWY_RESTRICT row = rows.row(r);
    size_t c = 0;
    for (; c + lanes <= rows.cols; c += lanes) {
      poison = hn::MulAdd(hn::LoadU(d, row + c), zero, poison);
    }
    for (; c < rows.cols; ++c) tail += row[c] * 0.0F;
  }
  return hn::GetLane(hn::SumOfLanes(d, poison)) + tail == 0.0F;
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {
namespace {

HWY_EXPORT(AllFinite);

void check_head(const char* tensor, Matrix<const float> rows, size_t head, size_t layer,
                size_t first_position) {
  for (size_t r = 0; r < rows.rows; ++r) {
    for (const float x : rows.row_span(r)) {
      if (!std::isfinite(x)) {
        throw Error(ErrorCode::kInput,
                    fmt::format("{} of layer {}, head {}, position {} hold {}: the cache cannot be "
                                "compressed; check the model file and the prompt",
                                tensor, layer, head, first_position + r, x));
      }
    }
  }
}

[[noreturn]] void throw_overflow(size_t layer, size_t kv_head) {
  throw Error(ErrorCode::kInput,
              fmt::format("scores of layer {}, KV head {} overflow although all inputs are finite: "
                          "queries, keys or values are far too large for float32, or raised to "
                          "too high a power (tau)",
                          layer, kv_head));
}

}  // namespace

bool all_finite(Matrix<const float> rows) { return HWY_DYNAMIC_DISPATCH(AllFinite)(rows); }

void throw_not_finite(const LayerObservation& layer, size_t first, size_t heads, size_t window) {
  const size_t group = layer.queries.heads / layer.keys.heads;
  for (size_t kv_head = first; kv_head < first + heads; ++kv_head) {
    for (size_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
      check_head("queries", layer.queries.head(h).slice(layer.queries.rows - window, window), h,
                 layer.layer, layer.keys.rows - window);
    }
    check_head("keys", layer.keys.head(kv_head), kv_head, layer.layer, 0);
    check_head("values", layer.values.head(kv_head), kv_head, layer.layer, 0);
  }
  throw_overflow(layer.layer, first);
}

void throw_not_finite(const BlockObservation& block) {
  const size_t group = block.queries.heads / block.keys.heads;
  for (size_t h = 0; h < block.queries.heads; ++h) {
    check_head("queries", block.queries.head(h), block.first_query_head + h, block.layer,
               block.keys.rows + block.own_keys.rows - block.queries.rows);
  }
  for (size_t h = 0; h < block.keys.heads; ++h) {
    const size_t head = block.first_query_head / group + h;
    check_head("keys", block.keys.head(h), head, block.layer, 0);
    check_head("keys", block.own_keys.head(h), head, block.layer, block.keys.rows);
  }
  throw_overflow(block.layer, block.first_query_head / group);
}

void require_finite_values(const LayerObservation& layer, size_t first) {
  parallel_for(layer.values.heads, [&](size_t h, size_t) {
    const Matrix<const float> values = layer.values.head(h);
    if (!all_finite(values.slice(first, values.rows - first))) throw_not_finite(layer, h, 1, 0);
  });
}

}  // namespace restkv
#endif
