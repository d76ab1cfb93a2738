#include "linear/int8_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linear/int8_rows.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using RowTag = hn::CappedTag<float, 16>;
constexpr float kLargest = 127.0F;

float RoundToInt8(const float* HWY_RESTRICT x, size_t n, int8_t* HWY_RESTRICT out) {
  const RowTag d;
  const hn::Rebind<int8_t, RowTag> d8;
  const size_t lanes = hn::Lanes(d);
  auto tops = hn::Zero(d);
  auto zeros = hn::Zero(d);  // NaN where x is no number
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    tops = hn::Max(tops, hn::Abs(v));
    zeros = hn::MulAdd(v, hn::Zero(d), zeros);
  }
  float top = hn::GetLane(hn::MaxOfLanes(d, tops));
  float zero = hn::GetLane(hn::SumOfLanes(d, zeros));
  for (size_t t = i; t < n; ++t) {
    top = std::max(top, std::abs(x[t]));
    zero += x[t] * 0.0F;
  }
  if (!(top > 0) || zero != 0) {  // nothing to round, or nothing that could be
    std::fill_n(out, n, int8_t{0});
    return zero;
  }
  const float inverse = kLargest / top;
  for (i = 0; i + lanes <= n; i += lanes) {
    const auto codes = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, inverse)));
    hn::StoreU(hn::DemoteTo(d8, codes), d8, out + i);
  }
  for (; i < n; ++i) out[i] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
  return top / kLargest;
}

void ScaleSums(float* y, size_t n, float step, const float* HWY_RESTRICT steps) {
  const RowTag d;
  const hn::RebindToSigned<RowTag> di;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto sums = hn::ConvertTo(d, hn::BitCast(di, hn::LoadU(d, y + i)));
    hn::StoreU(hn::Mul(sums, hn::Mul(hn::Set(d, step), hn::LoadU(d, steps + i))), d, y + i);
  }
  for (; i < n; ++i) {
    int32_t sum;
    std::memcpy(&sum, y + i, sizeof(sum));
    y[i] = static_cast<float>(sum) * (step * steps[i]);
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(RoundToInt8);
HWY_EXPORT(ScaleSums);

float round_to_int8(const float* x, size_t n, int8_t* out) {
  return HWY_DYNAMIC_DISPATCH(RoundToInt8)(x, n, out);
}

void scale_sums(float* y, size_t n, float step, const float* steps) {
  HWY_DYNAMIC_DISPATCH(ScaleSums)(y, n, step, steps);
}

}  // namespace restkv
#endif  // HWY_ONCE
