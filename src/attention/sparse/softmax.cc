#include <algorithm>

#include "attention/sparse/pattern.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/sparse/softmax.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "base/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

void SoftmaxWeights(float* HWY_RESTRICT logits, size_t n) {
  const hn::CappedTag<float, 16> d;
  constexpr size_t kLanes = hn::MaxLanes(hn::CappedTag<float, 16>());
  const size_t whole = n / kLanes * kLanes;
  float largest = logits[0];
  if (whole > 0) {
    auto lanes = hn::LoadU(d, logits);
    for (size_t j = kLanes; j < whole; j += kLanes)
      lanes = hn::Max(lanes, hn::LoadU(d, logits + j));
    largest = hn::GetLane(hn::MaxOfLanes(d, lanes));
  }
  for (size_t j = whole; j < n; ++j) largest = std::max(largest, logits[j]);
  const auto top = hn::Set(d, largest);
  auto total = hn::Zero(d);
  for (size_t j = 0; j < whole; j += kLanes) {
    const auto weight = Exp(d, hn::Sub(hn::LoadU(d, logits + j), top));
    total = hn::Add(total, weight);
    hn::StoreU(weight, d, logits + j);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, total));
  for (size_t j = whole; j < n; ++j) {
    logits[j] = hn::GetLane(Exp(d, hn::Sub(hn::Set(d, logits[j]), top)));
    sum += logits[j];
  }
  const auto inverse = hn::Set(d, 1.0F / sum);
  for (size_t j = 0; j < whole; j += kLanes) {
    hn::StoreU(hn::Mul(hn::LoadU(d, logits + j), inverse), d, logits + j);
  }
  for (size_t j = whole; j < n; ++j) logits[j] /= sum;
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(SoftmaxWeights);

void softmax_weights(std::span<float> logits) {
  if (logits.empty()) return;
  HWY_DYNAMIC_DISPATCH(SoftmaxWeights)(logits.data(), logits.size());
}

}  // namespace restkv
#endif  // HWY_ONCE
