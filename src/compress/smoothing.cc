#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

#include "base/threads.h"
#include "compress/top_positions.h"
#include "restkv/stages.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/smoothing.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "base/each_vector-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// out[i] = mean or maximum of in[i .. i + kernel). Sums are formed directly: a running sum would
/// lose small scores beside a large one.
void Pool(const float* HWY_RESTRICT in, size_t count, size_t kernel, bool largest,
          float* HWY_RESTRICT out) {
  // Uses several vectors at a time, because a single sum would wait for itself.
  const auto pool = [&]<size_t kVectors>(auto d, size_t i) HWY_ATTR {
    const size_t lanes = hn::Lanes(d);
    hn::Vec<decltype(d)> result[kVectors];
    for (size_t v = 0; v < kVectors; ++v) result[v] = hn::LoadU(d, in + i + v * lanes);
    for (size_t j = 1; j < kernel; ++j) {
#pragma GCC unroll 8
      for (size_t v = 0; v < kVectors; ++v) {
        const auto next = hn::LoadU(d, in + i + v * lanes + j);
        result[v] = largest ? hn::Max(result[v], next) : hn::Add(result[v], next);
      }
    }
    for (size_t v = 0; v < kVectors; ++v) {
      if (!largest) result[v] = hn::Div(result[v], hn::Set(d, static_cast<float>(kernel)));
      hn::StoreU(result[v], d, out + i + v * lanes);
    }
  };
  constexpr size_t kTogether = 8;
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + kTogether * lanes <= count; i += kTogether * lanes) {
    pool.template operator()<kTogether>(d, i);
  }
  for (; i + lanes <= count; i += lanes) pool.template operator()<1>(d, i);
  for (; i < count; ++i) pool.template operator()<1>(hn::CappedTag<float, 1>(), i);
}

/// The larger of both or their sum.
template <bool kLargest, class V>
HWY_INLINE V Join(V a, V b) {
  if constexpr (kLargest) return hn::Max(a, b);
  return hn::Add(a, b);
}

/// out[i] = the larger one of
///   (x[-1] + 2 x[0] + x[1]) / 4, or kLargest: (x[0] + 3 max(x[-1], x[0], x[1])) / 4,
///   for x = in + i + centre, and
///   kNeighbourhoodWeight times the mean or maximum of in[i .. i + kernel), kernel >= 3.
/// `threes` has room for as many numbers as `in`.
template <bool kLargest>
HWY_INLINE void PoolTwoScalesBy(const float* HWY_RESTRICT in, size_t count, size_t kernel,
                                size_t centre, float* HWY_RESTRICT threes,
                                float* HWY_RESTRICT out) {
  ForEachVector(count + kernel - 3, [&](auto d, size_t i) HWY_ATTR {
    const auto pair = Join<kLargest>(hn::LoadU(d, in + i), hn::LoadU(d, in + i + 1));
    hn::StoreU(Join<kLargest>(pair, hn::LoadU(d, in + i + 2)), d, threes + i);
  });
  const float weight = kNeighbourhoodWeight / (kLargest ? 1.0F : static_cast<float>(kernel));
  ForEachVector(count, [&](auto d, size_t i) HWY_ATTR {
    auto wide = hn::LoadU(d, threes + i);
    size_t k = 3;
    for (; k + 3 <= kernel; k += 3) wide = Join<kLargest>(wide, hn::LoadU(d, threes + i + k));
    for (; k < kernel; ++k) wide = Join<kLargest>(wide, hn::LoadU(d, in + i + k));
    const auto alone = hn::LoadU(d, in + i + centre);
    const auto adjacent = hn::LoadU(d, threes + i + centre - 1);
    const auto narrow =
        kLargest ? hn::MulAdd(hn::Set(d, 3.0F), adjacent, alone) : hn::Add(alone, adjacent);
    hn::StoreU(hn::Max(hn::Mul(narrow, hn::Set(d, 0.25F)), hn::Mul(wide, hn::Set(d, weight))), d,
               out + i);
  });
}

void PoolTwoScales(const float* in, size_t count, size_t kernel, size_t centre, bool largest,
                   float* threes, float* out) {
  if (largest) return PoolTwoScalesBy<true>(in, count, kernel, centre, threes, out);
  PoolTwoScalesBy<false>(in, count, kernel, centre, threes, out);
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {
namespace {

HWY_EXPORT(Pool);
HWY_EXPORT(PoolTwoScales);

/// A padded row for pooling windows; memory is reused between rows.
struct PaddedRow {
  std::vector<float> scores;  ///< Entry x is position x + shift - kernel / 2.

  /// `front` replaces the first number of `raw`.
  void set(std::span<const float> raw, float front, Pooling pooling, PoolingWindow window) {
    const auto size = static_cast<ptrdiff_t>(raw.size());
    const ptrdiff_t first = window.shift - window.kernel / 2;
    float before = 0.0F;
    float behind = 0.0F;
    if (pooling == Pooling::kAdaptive) {
      before = front;
      behind = size > 1 ? raw.back() : front;
    } else if (pooling == Pooling::kMax) {
      before = behind = std::numeric_limits<float>::lowest();
    }
    scores.resize(raw.size() + static_cast<size_t>(window.kernel) - 1);
    // Entries [begin, end) are existing positions.
    const ptrdiff_t begin = std::clamp<ptrdiff_t>(-first, 0, std::ssize(scores));
    const ptrdiff_t end = std::clamp<ptrdiff_t>(size - first, begin, std::ssize(scores));
    std::fill(scores.begin(), scores.begin() + begin, before);
    std::fill(scores.begin() + end, scores.end(), behind);
    if (begin == end) return;
    std::copy(raw.begin() + (first + begin), raw.begin() + (first + end), scores.begin() + begin);
    if (first + begin == 0) scores[static_cast<size_t>(begin)] = front;
  }
};

/// Sums of the positions of the `count` largest weights of each row: exact integers in double.
std::vector<double> sums_of_best(Matrix<const float> rows, size_t count) {
  std::vector<double> sums(rows.rows);
  parallel_for(rows.rows, [&](size_t row, size_t) {
    thread_local TopPositions top;  // reused between calls
    sums[row] = static_cast<double>(top.sum(rows.row_span(row), count));
  });
  return sums;
}

/// Mean position of the best of `olds` rows minus that of `news` rows, from both sums. The only
/// division is the last step, so that an integer drift is exact.
float drift_between(double old_sum, size_t olds, double new_sum, size_t news, size_t count) {
  const auto o = static_cast<double>(olds);
  const auto n = static_cast<double>(news);
  return static_cast<float>((old_sum * n - new_sum * o) / (o * n * static_cast<double>(count)));
}

}  // namespace

std::vector<float> attention_drift(const WindowAttention& attention, size_t count) {
  const size_t window = attention.window();
  const size_t older = window / 2;
  std::vector<float> drift(attention.group(), 0.0F);
  if (older == 0 || count == 0) return drift;
  const std::vector<double> sums = sums_of_best(attention.rows(), count);
  for (size_t g = 0; g < drift.size(); ++g) {
    const auto row = sums.begin() + static_cast<ptrdiff_t>(g * window);
    const auto middle = row + static_cast<ptrdiff_t>(older);
    drift[g] = drift_between(std::accumulate(row, middle, 0.0), older,
                             std::accumulate(middle, row + static_cast<ptrdiff_t>(window), 0.0),
                             window - older, count);
  }
  return drift;
}

std::vector<float> half_window_drift(Matrix<const float> older, Matrix<const float> newer,
                                     size_t count) {
  std::vector<float> drift(older.rows, 0.0F);
  if (count == 0) return drift;
  const std::vector<double> old_sums = sums_of_best(older, count);
  const std::vector<double> new_sums = sums_of_best(newer, count);
  for (size_t h = 0; h < drift.size(); ++h) {
    drift[h] = drift_between(old_sums[h], 1, new_sums[h], 1, count);
  }
  return drift;
}

PoolingWindow adaptive_window(float drift, int kernel, double scale) {
  // The bound prevents an overflow for a scale far below one position.
  const double steps = std::clamp(double{drift} / scale, -0x1p20, 0x1p20);
  const auto whole = static_cast<int>(std::floor(steps));
  return {.kernel = std::max(kernel, 2 * static_cast<int>(std::floor(std::abs(steps))) + 1),
          .shift = drift > 0.0F ? whole : whole + 1};
}

void smooth(std::span<const float> raw, Pooling pooling, PoolingWindow window,
            std::span<float> out) {
  if (pooling == Pooling::kNone || raw.empty()) {
    std::copy(raw.begin(), raw.end(), out.begin());
    return;
  }
  thread_local PaddedRow in;
  in.set(raw, raw.front(), pooling, window);
  HWY_DYNAMIC_DISPATCH(Pool)
  (in.scores.data(), out.size(), static_cast<size_t>(window.kernel), pooling == Pooling::kMax,
   out.data());
}

size_t sink_reach(int budget, int window) {
  constexpr int kMost = kNeighbourhood / 2 - kNeighbourhoodShift;
  return static_cast<size_t>(std::clamp((budget - window) / 8, 0, kMost));
}

void smooth_two_scales(std::span<const float> raw, Pooling pooling, PoolingWindow window,
                       size_t reach, std::span<float> out) {
  if (pooling == Pooling::kNone || raw.empty()) return smooth(raw, pooling, window, out);
  const PoolingWindow wide{.kernel = window.kernel, .shift = window.shift + kNeighbourhoodShift};
  thread_local PaddedRow in;
  thread_local std::vector<float> threes;
  const auto pool = [&](std::span<const float> scores, float front, float* result) {
    in.set(scores, front, pooling, wide);
    threes.resize(in.scores.size());
    HWY_DYNAMIC_DISPATCH(PoolTwoScales)
    (in.scores.data(), scores.size(), static_cast<size_t>(wide.kernel),
     static_cast<size_t>(wide.kernel / 2 - kNeighbourhoodShift), pooling == Pooling::kMax,
     threes.data(), result);
  };
  pool(raw, 0.0F, out.data());

  // Positions that may have the first token as a neighbour.
  const auto reached = static_cast<ptrdiff_t>(std::min(raw.size(), reach + 1));
  const auto seen = reach + 1 + static_cast<size_t>(window.kernel + std::abs(window.shift));
  const auto beginning = raw.first(std::min(raw.size(), seen));
  std::vector<float> with_sink(beginning.size());
  pool(beginning, beginning.front(), with_sink.data());
  std::copy_n(with_sink.begin(), reached, out.begin());
  out.front() = std::max(out.front(), raw.front());
}

void reduce_group(Matrix<const float> scores, GroupReduce reduce, std::span<float> out) {
  std::copy_n(scores.row(0), out.size(), out.begin());
  for (size_t g = 1; g < scores.rows; ++g) {
    const float* row = scores.row(g);
    if (reduce == GroupReduce::kMax) {
      for (size_t i = 0; i < out.size(); ++i) out[i] = std::max(out[i], row[i]);
    } else {
      for (size_t i = 0; i < out.size(); ++i) out[i] += row[i];
    }
  }
  if (reduce == GroupReduce::kMean) {
    for (float& x : out) x /= static_cast<float>(scores.rows);
  }
}

}  // namespace restkv
#endif  // HWY_ONCE
