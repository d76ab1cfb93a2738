// Biases of keys beside tiles of logits. Included once per SIMD target (see hwy/foreach_target.h).

#if defined(RESTKV_ATTENTION_BIAS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESTKV_ATTENTION_BIAS_INL_H_
#undef RESTKV_ATTENTION_BIAS_INL_H_
#else
#define RESTKV_ATTENTION_BIAS_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "base/gemm-inl.h"
#include "base/math-inl.h"
#include "hwy/highway.h"
#include "restkv/views.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// Copies the biases [kv_heads, n] of the keys [begin, begin + count) of a head to `tile`
/// [kTilePositions], in units of log2 as logits are. Returns false if there are none.
HWY_INLINE bool TileBias(const Matrix<const float>& bias, size_t kv_head, size_t begin,
                         size_t count, float* HWY_RESTRICT tile) {
  if (bias.data == nullptr) return false;
  const float* from = bias.row(kv_head) + begin;
  for (size_t j = 0; j < count; ++j) tile[j] = from[j] * kLog2E;
  std::fill(tile + count, tile + kTilePositions, 0.0F);
  return true;
}

/// Adds them to `rows` rows of logits [rows, kTilePositions]; both are aligned.
HWY_INLINE void AddBias(const float* HWY_RESTRICT tile, float* HWY_RESTRICT logits, size_t rows) {
  const hn::CappedTag<float, 16> d;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t j = 0; j < kTilePositions; j += hn::Lanes(d)) {
      float* at = logits + r * kTilePositions + j;
      hn::Store(hn::Add(hn::Load(d, at), hn::Load(d, tile + j)), d, at);
    }
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
