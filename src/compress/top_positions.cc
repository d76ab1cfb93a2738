#include "compress/top_positions.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "restkv/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/top_positions.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"

#ifndef RESTKV_COMPRESS_TOP_POSITIONS_CUT_
#define RESTKV_COMPRESS_TOP_POSITIONS_CUT_
namespace restkv {

/// A key and the number of keys that reach it.
struct Cut {
  int32_t key;
  size_t count;
};

}  // namespace restkv
#endif

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Number of keys >= bound.
HWY_INLINE size_t CountAtLeast(const int32_t* HWY_RESTRICT keys, size_t size, int32_t bound) {
  const hn::ScalableTag<int32_t> d;
  const size_t lanes = hn::Lanes(d);
  const auto limit = hn::Set(d, bound);
  constexpr size_t kTogether = 4;
  hn::Vec<decltype(d)> below[kTogether];  // counts of lanes
  for (auto& counts : below) counts = hn::Zero(d);
  const auto add = [&](size_t v, const int32_t* from) HWY_ATTR {
    below[v] = hn::Sub(below[v], hn::VecFromMask(d, hn::Lt(hn::LoadU(d, from), limit)));
  };
  size_t i = 0;
  for (; i + kTogether * lanes <= size; i += kTogether * lanes) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kTogether; ++v) add(v, keys + i + v * lanes);
  }
  for (; i + lanes <= size; i += lanes) add(0, keys + i);
  const auto all = hn::Add(hn::Add(below[0], below[1]), hn::Add(below[2], below[3]));
  size_t count = i - static_cast<size_t>(hn::GetLane(hn::SumOfLanes(d, all)));
  for (; i < size; ++i) count += keys[i] >= bound ? 1 : 0;
  return count;
}

/// A key that exactly `rank` keys reach or, if equal keys make that impossible, the largest one
/// that more than `rank` reach. Searches by value, with interpolation and bisection in turn: a few
/// vectorised counts, at most 64.
Cut FindCut(const int32_t* HWY_RESTRICT keys, size_t size, size_t rank) {
  const hn::ScalableTag<int32_t> d;
  const size_t lanes = hn::Lanes(d);
  int32_t smallest = keys[0];
  int32_t largest = keys[0];
  size_t i = 0;
  if (size >= lanes) {
    auto low_lanes = hn::LoadU(d, keys);
    auto high_lanes = low_lanes;
    for (; i + lanes <= size; i += lanes) {
      const auto key = hn::LoadU(d, keys + i);
      low_lanes = hn::Min(low_lanes, key);
      high_lanes = hn::Max(high_lanes, key);
    }
    smallest = hn::GetLane(hn::MinOfLanes(d, low_lanes));
    largest = hn::GetLane(hn::MaxOfLanes(d, high_lanes));
  }
  for (; i < size; ++i) {
    smallest = HWY_MIN(smallest, keys[i]);
    largest = HWY_MAX(largest, keys[i]);
  }

  int64_t low = smallest;  // reached by at least `rank` keys
  size_t at_low = size;
  int64_t high = int64_t{largest} + 1;  // reached by fewer
  size_t at_high = 0;
  for (bool halve = false; at_low != rank && high - low > 1; halve = !halve) {
    int64_t middle = low + (high - low) / 2;
    if (!halve) {
      const double share =
          (static_cast<double>(at_low - rank) + 0.5) / static_cast<double>(at_low - at_high);
      middle = low + static_cast<int64_t>(share * static_cast<double>(high - low));
      middle = HWY_MAX(low + 1, HWY_MIN(middle, high - 1));
    }
    const size_t count = CountAtLeast(keys, size, static_cast<int32_t>(middle));
    if (count >= rank) {
      low = middle;
      at_low = count;
    } else {
      high = middle;
      at_high = count;
    }
  }
  return {static_cast<int32_t>(low), at_low};
}

/// Maps floats to integers in the same order: the bits of non-negative ones, and those of negative
/// ones with the magnitude flipped.
template <class D, class DI = hn::RebindToSigned<D>>
HWY_INLINE hn::Vec<DI> LoadKeys(D d, const float* values) {
  const DI di;
  const auto bits = hn::BitCast(di, hn::LoadU(d, values));
  return hn::Xor(bits, hn::And(hn::BroadcastSignBit(bits), hn::Set(di, 0x7FFFFFFF)));
}

void MakeKeys(const float* HWY_RESTRICT values, size_t size, int32_t* HWY_RESTRICT keys) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    hn::StoreU(LoadKeys(d, values + i), hn::RebindToSigned<decltype(d)>(), keys + i);
  }
  const hn::CappedTag<float, 1> d1;
  for (; i < size; ++i) {
    hn::StoreU(LoadKeys(d1, values + i), hn::RebindToSigned<decltype(d1)>(), keys + i);
  }
}

/// Sum of the positions of the keys >= bound.
int64_t SumPositions(const int32_t* HWY_RESTRICT keys, size_t size, int32_t bound) {
  const hn::ScalableTag<int32_t> d;
  const size_t lanes = hn::Lanes(d);
  const auto limit = hn::Set(d, bound);
  int64_t sum = 0;
  size_t i = 0;
  while (i + lanes <= size) {
    // Sums in 32 bits restart at 0 for ranges of positions that cannot overflow.
    const size_t begin = i;
    const size_t end = HWY_MIN(size, begin + 4096);
    auto sums = hn::Zero(d);
    auto counts = hn::Zero(d);
    for (; i + lanes <= end; i += lanes) {
      const auto reaches = hn::Not(hn::Lt(hn::LoadU(d, keys + i), limit));
      sums =
          hn::Add(sums, hn::IfThenElseZero(reaches, hn::Set(d, static_cast<int32_t>(i - begin))));
      counts = hn::Sub(counts, hn::VecFromMask(d, reaches));
    }
    const auto of_lanes = hn::Add(hn::Mul(counts, hn::Iota(d, 0)), sums);
    sum += hn::GetLane(hn::SumOfLanes(d, of_lanes)) +
           static_cast<int64_t>(begin) * hn::GetLane(hn::SumOfLanes(d, counts));
  }
  for (; i < size; ++i) {
    if (keys[i] >= bound) sum += static_cast<int64_t>(i);
  }
  return sum;
}

/// Stores positions and keys of all values with keys >= bound, in order; returns their number. Both
/// outputs need room for `size` entries and one vector more.
size_t Collect(const float* HWY_RESTRICT values, size_t size, int32_t bound,
               int32_t* HWY_RESTRICT positions, int32_t* HWY_RESTRICT keys) {
  const hn::ScalableTag<int32_t> d;
  const hn::RebindToFloat<decltype(d)> df;
  const size_t lanes = hn::Lanes(d);
  const auto limit = hn::Set(d, bound);
  size_t found = 0;
  size_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    const auto key = LoadKeys(df, values + i);
    const auto mask = hn::Not(hn::Lt(key, limit));
    if (hn::AllFalse(d, mask)) continue;
    // Whole vectors are stored: compressing into memory is slow on some machines.
    hn::StoreU(hn::Compress(key, mask), d, keys + found);
    hn::StoreU(hn::Compress(hn::Iota(d, static_cast<int32_t>(i)), mask), d, positions + found);
    found += hn::CountTrue(d, mask);
  }
  for (; i < size; ++i) {
    const int32_t key = hn::GetLane(LoadKeys(hn::CappedTag<float, 1>(), values + i));
    if (key < bound) continue;
    keys[found] = key;
    positions[found++] = static_cast<int32_t>(i);
  }
  return found;
}

/// Moves the positions with keys >= bound to the front, in order; returns their number. Works in
/// place, because stores never pass the loads.
size_t Filter(const int32_t* HWY_RESTRICT keys, size_t size, int32_t bound, int32_t* positions) {
  const hn::ScalableTag<int32_t> d;
  const size_t lanes = hn::Lanes(d);
  const auto limit = hn::Set(d, bound);
  size_t kept = 0;
  size_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    const auto mask = hn::Not(hn::Lt(hn::LoadU(d, keys + i), limit));
    hn::StoreU(hn::Compress(hn::LoadU(d, positions + i), mask), d, positions + kept);
    kept += hn::CountTrue(d, mask);
  }
  for (; i < size; ++i) {
    if (keys[i] >= bound) positions[kept++] = positions[i];
  }
  return kept;
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {
namespace {

HWY_EXPORT(FindCut);
HWY_EXPORT(Collect);
HWY_EXPORT(Filter);
HWY_EXPORT(MakeKeys);
HWY_EXPORT(SumPositions);

/// A bound that slightly more than `count` keys reach, estimated by a regular sample.
int32_t guess_bound(std::span<const float> values, size_t count) {
  constexpr size_t kSample = 1024;
  if (values.size() < 4 * kSample) return INT32_MIN;
  const double expected = static_cast<double>(count) * kSample / static_cast<double>(values.size());
  const auto rank = static_cast<size_t>(expected + 3 * std::sqrt(expected) + 4);
  if (rank >= kSample) return INT32_MIN;
  float sample[kSample];
  for (size_t i = 0; i < kSample; ++i) sample[i] = values[i * values.size() / kSample];
  int32_t keys[kSample];
  HWY_DYNAMIC_DISPATCH(MakeKeys)(sample, kSample, keys);
  return HWY_DYNAMIC_DISPATCH(FindCut)(keys, kSample, rank).key;
}

void require_count(std::span<const float> values, size_t count) {
  if (count <= values.size()) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("there are no {} largest of {} values", count, values.size()));
}

}  // namespace

int32_t TopPositions::cut(size_t found, size_t count) {
  const Cut cut = HWY_DYNAMIC_DISPATCH(FindCut)(keys_.data(), found, count);
  size_t excess = cut.count - count;
  for (size_t i = found; excess > 0; --i) {
    if (keys_[i - 1] != cut.key) continue;
    --keys_[i - 1];
    --excess;
  }
  return cut.key;
}

std::span<const int32_t> TopPositions::find(std::span<const float> values, size_t count) {
  require_count(values, count);
  if (count == 0) return {};
  // Buffers grow with the longest row seen; one vector of slack for whole-vector stores.
  if (const size_t room = values.size() + 64; positions_.size() < room) {
    keys_.resize(room);
    positions_.resize(room);
  }
  const auto collect = [&](int32_t bound) {
    return HWY_DYNAMIC_DISPATCH(Collect)(values.data(), values.size(), bound, positions_.data(),
                                         keys_.data());
  };
  size_t found = collect(guess_bound(values, count));
  if (found < count) found = collect(INT32_MIN);  // the estimate was too high: take all

  HWY_DYNAMIC_DISPATCH(Filter)(keys_.data(), found, cut(found, count), positions_.data());
  return {positions_.data(), count};
}

int64_t TopPositions::sum(std::span<const float> values, size_t count) {
  require_count(values, count);
  // For long rows it pays to discard most values first.
  constexpr size_t kLongest = 8192;
  if (count == 0 || values.size() > kLongest) {
    int64_t sum = 0;
    for (const int32_t position : find(values, count)) sum += position;
    return sum;
  }
  if (keys_.size() < values.size()) keys_.resize(values.size());
  HWY_DYNAMIC_DISPATCH(MakeKeys)(values.data(), values.size(), keys_.data());
  const int32_t least = cut(values.size(), count);
  return HWY_DYNAMIC_DISPATCH(SumPositions)(keys_.data(), values.size(), least);
}

}  // namespace restkv
#endif
