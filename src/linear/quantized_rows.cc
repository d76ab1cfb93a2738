#include "linear/quantized_rows.h"

#include "linear/tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linear/quantized_rows.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "base/int8_dot-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

#if RESTKV_INT8_DOT
void RoundRow(const float* HWY_RESTRICT x, size_t n, int8_t* HWY_RESTRICT quants,
              float* HWY_RESTRICT scales, int32_t* HWY_RESTRICT sums) {
  RoundBlocksToInt8<QuantizedRows::kBlock>(x, n, quants, scales, sums);
}

void FirstSums(const int8_t* HWY_RESTRICT quants, size_t blocks, int32_t* HWY_RESTRICT sums) {
  constexpr size_t kBlock = QuantizedRows::kBlock;
  for (size_t b = 0; b < blocks; ++b) {
    sums[b] = 0;
    for (size_t i = 0; i < kBlock / 2; ++i) sums[b] -= kByteOffset * quants[b * kBlock + i];
  }
}

#else
void RoundRow(const float*, size_t, int8_t*, float*, int32_t*) {}
void FirstSums(const int8_t*, size_t, int32_t*) {}
#endif

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(RoundRow);
HWY_EXPORT(FirstSums);

void QuantizedRows::round(Matrix<const float> x) {
  rows_ = x.rows;
  blocks_ = (x.cols + kBlock - 1) / kBlock;
  const size_t count = rows_ * blocks_;
  if (scales_.size() < count) {
    quants_.resize(count * kBlock);
    scales_.resize(count);
    sums_.resize(count);
    first_sums_.resize(count);
  }
  for_each_row(rows_, [&](size_t r) {
    const size_t at = r * blocks_;
    HWY_DYNAMIC_DISPATCH(RoundRow)
    (x.row(r), x.cols, &quants_[at * kBlock], &scales_[at], &sums_[at]);
  });
}

void QuantizedRows::add_first_sums() {
  for_each_row(rows_, [&](size_t r) {
    HWY_DYNAMIC_DISPATCH(FirstSums)
    (&quants_[r * blocks_ * kBlock], blocks_, &first_sums_[r * blocks_]);
  });
}

}  // namespace restkv
#endif  // HWY_ONCE
