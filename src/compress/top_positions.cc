#include "compress/top_positions.h"

#include <algorithm>
#include <bit>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/top_positions.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// How many keys are >= bound.
HWY_INLINE size_t CountAtLeast(const int32_t* HWY_RESTRICT keys, size_t size, int32_t bound) {
  const hn::ScalableTag<int32_t> d;
  const size_t lanes = hn::Lanes(d);
  const auto limit = hn::Set(d, bound);
  size_t count = 0;
  size_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    count += lanes - hn::CountTrue(d, hn::Lt(hn::LoadU(d, keys + i), limit));
  }
  for (; i < size; ++i) count += keys[i] >= bound ? 1 : 0;
  return count;
}

/// The rank-th largest key, by bisection on the key's value: at most 32 vectorised counts.
int32_t RankedKey(const int32_t* HWY_RESTRICT keys, size_t size, size_t rank) {
  const auto [smallest, largest] = std::minmax_element(keys, keys + size);
  int64_t low = *smallest;               // at least `rank` keys are >= low
  int64_t high = int64_t{*largest} + 1;  // fewer are >= high
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (CountAtLeast(keys, size, static_cast<int32_t>(middle)) >= rank) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return static_cast<int32_t>(low);
}

/// Positions and keys of all values whose key is >= bound, in order; returns how many. Both outputs
/// need room for `size` entries and one vector more.
size_t Collect(const float* HWY_RESTRICT values, size_t size, int32_t bound,
               int32_t* HWY_RESTRICT positions, int32_t* HWY_RESTRICT keys) {
  const hn::ScalableTag<int32_t> d;
  const hn::RebindToFloat<decltype(d)> df;
  const size_t lanes = hn::Lanes(d);
  const auto limit = hn::Set(d, bound);
  const auto magnitude = hn::Set(d, 0x7FFFFFFF);
  size_t found = 0;
  size_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    const auto bits = hn::BitCast(d, hn::LoadU(df, values + i));
    const auto key = hn::Xor(bits, hn::And(hn::BroadcastSignBit(bits), magnitude));
    const auto mask = hn::Not(hn::Lt(key, limit));
    if (hn::AllFalse(d, mask)) continue;
    hn::CompressStore(key, mask, d, keys + found);
    found += hn::CompressStore(hn::Iota(d, static_cast<int32_t>(i)), mask, d, positions + found);
  }
  for (; i < size; ++i) {
    const auto bits = std::bit_cast<int32_t>(values[i]);
    const int32_t key = bits ^ ((bits >> 31) & 0x7FFFFFFF);
    if (key < bound) continue;
    keys[found] = key;
    positions[found++] = static_cast<int32_t>(i);
  }
  return found;
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {
namespace {

HWY_EXPORT(RankedKey);
HWY_EXPORT(Collect);

/// Integers in the order of the floats they stand for: the bits themselves if not negative, else
/// with the magnitude's bits flipped.
int32_t key_of(float value) {
  const auto bits = std::bit_cast<int32_t>(value);
  return bits ^ ((bits >> 31) & 0x7FFFFFFF);
}

/// A bound that, by a regular sample, slightly more than `count` keys reach.
int32_t guess_bound(std::span<const float> values, size_t count) {
  constexpr size_t kSample = 1024;
  if (values.size() < 4 * kSample) return INT32_MIN;
  const double expected = static_cast<double>(count) * kSample / static_cast<double>(values.size());
  const auto rank = static_cast<size_t>(expected + 3 * std::sqrt(expected) + 4);
  if (rank >= kSample) return INT32_MIN;
  int32_t keys[kSample];
  for (size_t i = 0; i < kSample; ++i) keys[i] = key_of(values[i * values.size() / kSample]);
  return HWY_DYNAMIC_DISPATCH(RankedKey)(keys, kSample, rank);
}

}  // namespace

std::span<const int32_t> TopPositions::find(std::span<const float> values, size_t count) {
  if (count == 0) return {};
  // Buffers grow with the longest row seen; one vector of slack for whole-vector stores.
  if (const size_t room = values.size() + 64; keys_.size() < room) {
    keys_.resize(room);
    positions_.resize(room);
  }
  const auto collect = [&](int32_t bound) {
    return HWY_DYNAMIC_DISPATCH(Collect)(values.data(), values.size(), bound, positions_.data(),
                                         keys_.data());
  };
  size_t found = collect(guess_bound(values, count));
  if (found < count) found = collect(INT32_MIN);  // the sample misled: take all

  const int32_t last = HWY_DYNAMIC_DISPATCH(RankedKey)(keys_.data(), found, count);
  size_t ties = count;  // how many keys equal to `last` still fit
  for (size_t i = 0; i < found; ++i) ties -= keys_[i] > last ? 1 : 0;
  size_t kept = 0;
  for (size_t i = 0; kept < count; ++i) {
    if (keys_[i] < last) continue;
    if (keys_[i] == last) {
      if (ties == 0) continue;
      --ties;
    }
    positions_[kept++] = positions_[i];
  }
  return {positions_.data(), count};
}

}  // namespace restkv
#endif
