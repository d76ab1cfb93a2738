#include "model/ops.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "base/threads.h"
#include "restkv/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "model/ops.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "base/each_vector-inl.h"
#include "base/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

using Lanes16 = hn::CappedTag<float, 16>;

void RmsNormRow(const float* x, const float* weight, size_t count, float epsilon, float* y) {
  const Lanes16 d;
  auto sum = hn::Zero(d);
  float rest = 0.0F;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto v = hn::LoadU(d, x + i);
    sum = hn::MulAdd(v, v, sum);
  }
  for (; i < count; ++i) rest += x[i] * x[i];
  const float mean = (hn::GetLane(hn::SumOfLanes(d, sum)) + rest) / static_cast<float>(count);
  const float scale = 1.0F / std::sqrt(mean + epsilon);
  ForEachVector(count, [&](auto tag, size_t j) HWY_ATTR {
    hn::StoreU(
        hn::Mul(hn::Mul(hn::LoadU(tag, x + j), hn::Set(tag, scale)), hn::LoadU(tag, weight + j)),
        tag, y + j);
  });
}

void AddRow(float* x, const float* y, size_t count) {
  ForEachVector(count, [&](auto d, size_t i) HWY_ATTR {
    hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, x + i);
  });
}

void ScaleRow(float* x, float factor, size_t count) {
  ForEachVector(count, [&](auto d, size_t i) HWY_ATTR {
    hn::StoreU(hn::Mul(hn::LoadU(d, x + i), hn::Set(d, factor)), d, x + i);
  });
}

void AddScaledRow(const float* x, float factor, size_t count, float* y) {
  ForEachVector(count, [&](auto d, size_t i) HWY_ATTR {
    hn::StoreU(hn::MulAdd(hn::LoadU(d, x + i), hn::Set(d, factor), hn::LoadU(d, y + i)), d, y + i);
  });
}

void SoftcapRow(float* x, float cap, size_t count) {
  ForEachVector(count, [&](auto d, size_t i) HWY_ATTR {
    const auto c = hn::Set(d, cap);
    hn::StoreU(hn::Mul(c, Tanh(d, hn::Div(hn::LoadU(d, x + i), c))), d, x + i);
  });
}

/// GELU in its tanh form: g/2 (1 + tanh(sqrt(2/pi) (g + 0.044715 g^3))) (Hendrycks & Gimpel 2016).
void GeluMultiplyRow(float* gate, const float* up, size_t count) {
  ForEachVector(count, [&](auto d, size_t i) HWY_ATTR {
    const auto g = hn::LoadU(d, gate + i);
    const auto cubic = hn::MulAdd(hn::Mul(hn::Mul(g, g), g), hn::Set(d, 0.044715F), g);
    const auto t = Tanh(d, hn::Mul(cubic, hn::Set(d, 0.79788456F)));
    const auto half = hn::Mul(g, hn::Set(d, 0.5F));
    hn::StoreU(hn::Mul(hn::MulAdd(half, t, half), hn::LoadU(d, up + i)), d, gate + i);
  });
}

void SiluMultiplyRow(float* gate, const float* up, size_t count) {
  ForEachVector(count, [&](auto d, size_t i) HWY_ATTR {
    // Below -80 silu is 0 to float precision; the bound keeps e^-g finite.
    const auto g = hn::Max(hn::Set(d, -80.0F), hn::LoadU(d, gate + i));
    const auto e = Exp(d, hn::Neg(g));
    const auto silu = hn::Div(g, hn::Add(hn::Set(d, 1.0F), e));
    hn::StoreU(hn::Mul(silu, hn::LoadU(d, up + i)), d, gate + i);
  });
}

/// x within two bounds, or NaN: `Min` and `Max` may lose that.
template <class D>
HWY_INLINE hn::Vec<D> ClampOrNan(D d, hn::Vec<D> x, float least, float most) {
  x = hn::IfThenElse(hn::Lt(x, hn::Set(d, least)), hn::Set(d, least), x);
  return hn::IfThenElse(hn::Gt(x, hn::Set(d, most)), hn::Set(d, most), x);
}

/// Within the bounds nothing overflows: sigmoid(1.702 g) of g below -50 is 0 to float precision.
void ClampedSiluMultiplyRow(float* gate, const float* up, size_t count) {
  ForEachVector(count, [&](auto d, size_t i) HWY_ATTR {
    const auto g = ClampOrNan(d, hn::LoadU(d, gate + i), -50.0F, 7.0F);
    const auto u = ClampOrNan(d, hn::LoadU(d, up + i), -7.0F, 7.0F);
    const auto e = Exp(d, hn::Mul(hn::Set(d, -1.702F), g));
    const auto silu = hn::Div(g, hn::Add(hn::Set(d, 1.0F), e));
    hn::StoreU(hn::MulAdd(silu, u, silu), d, gate + i);
  });
}

/// (a, b) <- (a cos - b sin, a sin + b cos) for pairs (i, i + pairs); cos and sin are a row of the
/// table, times factors.
void RotateHalves(float* x, const float* cosine, float cosine_factor, const float* sine,
                  float sine_factor, size_t pairs) {
  ForEachVector(pairs, [&](auto d, size_t i) HWY_ATTR {
    const auto a = hn::LoadU(d, x + i);
    const auto b = hn::LoadU(d, x + pairs + i);
    const auto c = hn::Mul(hn::LoadU(d, cosine + i), hn::Set(d, cosine_factor));
    const auto s = hn::Mul(hn::LoadU(d, sine + i), hn::Set(d, sine_factor));
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, x + i);
    hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), d, x + pairs + i);
  });
}

/// The same for pairs (2i, 2i + 1).
void RotateNeighbours(float* x, const float* cosine, float cosine_factor, const float* sine,
                      float sine_factor, size_t pairs) {
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR  // which has no interleaved loads
  const Lanes16 d;
  for (; i + hn::Lanes(d) <= pairs; i += hn::Lanes(d)) {
    hn::Vec<decltype(d)> a;
    hn::Vec<decltype(d)> b;
    hn::LoadInterleaved2(d, x + 2 * i, a, b);
    const auto c = hn::Mul(hn::LoadU(d, cosine + i), hn::Set(d, cosine_factor));
    const auto s = hn::Mul(hn::LoadU(d, sine + i), hn::Set(d, sine_factor));
    hn::StoreInterleaved2(hn::NegMulAdd(b, s, hn::Mul(a, c)), hn::MulAdd(a, s, hn::Mul(b, c)), d,
                          x + 2 * i);
  }
#endif
  for (; i < pairs; ++i) {
    const float a = x[2 * i];
    const float b = x[2 * i + 1];
    const float c = cosine[i] * cosine_factor;
    const float s = sine[i] * sine_factor;
    x[2 * i] = a * c - b * s;
    x[2 * i + 1] = a * s + b * c;
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(RmsNormRow);
HWY_EXPORT(AddRow);
HWY_EXPORT(ScaleRow);
HWY_EXPORT(AddScaledRow);
HWY_EXPORT(SoftcapRow);
HWY_EXPORT(SiluMultiplyRow);
HWY_EXPORT(GeluMultiplyRow);
HWY_EXPORT(ClampedSiluMultiplyRow);
HWY_EXPORT(RotateHalves);
HWY_EXPORT(RotateNeighbours);

namespace {

/// A task takes several rows, because rows are short compared with the cost of waking threads.
void for_each_row(size_t rows, FunctionRef<void(size_t)> body) {
  constexpr size_t kRowsPerTask = 16;
  parallel_for((rows + kRowsPerTask - 1) / kRowsPerTask, [&](size_t task, size_t) {
    const size_t end = std::min(rows, (task + 1) * kRowsPerTask);
    for (size_t r = task * kRowsPerTask; r < end; ++r) body(r);
  });
}

}  // namespace

void rms_norm(Matrix<const float> x, std::span<const float> weight, float epsilon,
              Matrix<float> y) {
  for_each_row(x.rows, [&](size_t r) {
    if (weight.empty()) {
      std::copy_n(x.row(r), x.cols, y.row(r));
      return;
    }
    HWY_DYNAMIC_DISPATCH(RmsNormRow)(x.row(r), weight.data(), x.cols, epsilon, y.row(r));
  });
}

void add(Matrix<float> x, Matrix<const float> y) {
  for_each_row(x.rows, [&](size_t r) { HWY_DYNAMIC_DISPATCH(AddRow)(x.row(r), y.row(r), x.cols); });
}

void rms_norm_heads(Heads<float> x, std::span<const float> weight, float epsilon) {
  for_each_row(x.rows, [&](size_t r) {
    for (size_t h = 0; h < x.heads; ++h) {
      HWY_DYNAMIC_DISPATCH(RmsNormRow)(x.row(h, r), weight.data(), x.dim, epsilon, x.row(h, r));
    }
  });
}

void add_bias(Matrix<float> x, std::span<const float> bias) {
  for_each_row(x.rows, [&](size_t r) {
    HWY_DYNAMIC_DISPATCH(AddRow)(x.row(r), bias.data(), x.cols);
  });
}

void scale(Matrix<float> x, float factor) {
  for_each_row(x.rows, [&](size_t r) { HWY_DYNAMIC_DISPATCH(ScaleRow)(x.row(r), factor, x.cols); });
}

void softcap(Matrix<float> x, float cap) {
  for_each_row(x.rows, [&](size_t r) { HWY_DYNAMIC_DISPATCH(SoftcapRow)(x.row(r), cap, x.cols); });
}

void gate_multiply(Matrix<float> gate_up, Activation activation) {
  const size_t width = gate_up.cols / 2;
  for_each_row(gate_up.rows, [&](size_t r) {
    float* gate = gate_up.row(r);
    switch (activation) {
      case Activation::kGelu:
        return HWY_DYNAMIC_DISPATCH(GeluMultiplyRow)(gate, gate + width, width);
      case Activation::kClampedSilu:
        return HWY_DYNAMIC_DISPATCH(ClampedSiluMultiplyRow)(gate, gate + width, width);
      case Activation::kSilu:
        return HWY_DYNAMIC_DISPATCH(SiluMultiplyRow)(gate, gate + width, width);
    }
  });
}

void gate_rows(Matrix<const float> x, std::span<const float> weight, Matrix<float> y) {
  for_each_row(x.rows, [&](size_t r) {
    double dot = 0;
    for (size_t i = 0; i < x.cols; ++i) dot += double{x.row(r)[i]} * double{weight[i]};
    HWY_DYNAMIC_DISPATCH(ScaleRow)
    (y.row(r), static_cast<float>(1 / (1 + std::exp(-dot))), y.cols);
  });
}

void gather_rows(Matrix<const float> x, std::span<const Routing::Row> rows, Matrix<float> y) {
  for_each_row(rows.size(), [&](size_t i) { std::copy_n(x.row(rows[i].row), x.cols, y.row(i)); });
}

void add_weighed_rows(Matrix<const float> x, std::span<const Routing::Row> rows, Matrix<float> y) {
  // Rows of y may occur several times, so tasks are ranges of columns.
  constexpr size_t kNumbersPerTask = 16384;
  const size_t columns = std::max<size_t>(64, kNumbersPerTask / std::max<size_t>(1, rows.size()));
  parallel_for((y.cols + columns - 1) / columns, [&](size_t task, size_t) {
    const size_t begin = task * columns;
    const size_t count = std::min(columns, y.cols - begin);
    for (size_t i = 0; i < rows.size(); ++i) {
      HWY_DYNAMIC_DISPATCH(AddScaledRow)
      (x.row(i) + begin, rows[i].weight, count, y.row(rows[i].row) + begin);
    }
  });
}

namespace {

/// YaRN (Peng et al. 2023, section 3.2): the share of pair i that keeps its frequency. Pairs with
/// more than beta_fast turns in the original context keep it, pairs with less than beta_slow turns
/// are interpolated, and a linear ramp connects both.
double yarn_kept_share(const RopeConfig& c, size_t pair) {
  const auto dim = static_cast<double>(c.dim);
  const auto pair_of_turns = [&](double turns) {
    return dim *
           std::log(static_cast<double>(c.original_context) / (turns * 2 * std::numbers::pi)) /
           (2 * std::log(c.base));
  };
  const double low = std::max(0.0, std::floor(pair_of_turns(c.beta_fast)));
  const double high = std::min(dim - 1, std::ceil(pair_of_turns(c.beta_slow)));
  const double y = (static_cast<double>(pair) - low) / std::max(0.001, high - low);
  return 1 - std::clamp(y, 0.0, 1.0);
}

}  // namespace

RopeTable::RopeTable(const RopeConfig& config, std::span<const float> factors, RopeStyle style)
    : pairs_(config.dim / 2), style_(style), magnitude_(config.magnitude), frequencies_(pairs_) {
  for (size_t i = 0; i < pairs_; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(config.dim);
    const double kept =
        config.scaling == RopeConfig::Scaling::kYarn ? yarn_kept_share(config, i) : 0.0;
    frequencies_[i] = std::pow(config.base, exponent) * ((1 - kept) / config.factor + kept) /
                      (factors.empty() ? 1.0 : static_cast<double>(factors[i]));
  }
}

void RopeTable::grow(size_t end) {
  if (pairs_ == 0) return;
  const size_t have = table_.size() / (2 * pairs_);
  if (end <= have) return;
  table_.resize(2 * pairs_ * std::max(end, have + 256));
  const size_t positions = table_.size() / (2 * pairs_);
  for_each_row(positions - have, [&](size_t r) {
    float* row = table_.data() + (have + r) * 2 * pairs_;
    for (size_t i = 0; i < pairs_; ++i) {
      const double angle = static_cast<double>(have + r) * frequencies_[i];
      row[i] = static_cast<float>(magnitude_ * std::cos(angle));
      row[pairs_ + i] = static_cast<float>(magnitude_ * std::sin(angle));
    }
  });
}

void RopeTable::reach(size_t first, size_t count) {
  if (first > kMostPositions || count > kMostPositions - first) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("position {} (of {} more) is none that a key can be rotated to",
                            static_cast<int64_t>(first), count));
  }
  grow(first + count);
}

std::vector<size_t> consecutive(size_t first, size_t count) {
  std::vector<size_t> positions(count);
  std::iota(positions.begin(), positions.end(), first);
  return positions;
}

void RopeTable::rotate_row(Heads<float> x, size_t row, size_t position, float cosine_factor,
                           float sine_factor) const {
  const float* cosine = table_.data() + position * 2 * pairs_;
  const float* sine = cosine + pairs_;
  for (size_t h = 0; h < x.heads; ++h) {
    if (style_ == RopeStyle::kHalves) {
      HWY_DYNAMIC_DISPATCH(RotateHalves)
      (x.row(h, row), cosine, cosine_factor, sine, sine_factor, pairs_);
    } else {
      HWY_DYNAMIC_DISPATCH(RotateNeighbours)
      (x.row(h, row), cosine, cosine_factor, sine, sine_factor, pairs_);
    }
  }
}

void RopeTable::rotate(Heads<float> x, std::span<const size_t> positions) {
  if (pairs_ == 0 || positions.empty()) return;
  reach(*std::ranges::max_element(positions), 1);
  for_each_row(x.rows, [&](size_t r) { rotate_row(x, r, positions[r], 1.0F, 1.0F); });
}

void RopeTable::rotate_back(Heads<float> x, size_t first) {
  if (pairs_ == 0) return;
  reach(first, x.rows);
  // The inverse of m R is R^T / m, and the table holds m cos and m sin.
  const auto undo = static_cast<float>(1 / (magnitude_ * magnitude_));
  for_each_row(x.rows, [&](size_t r) { rotate_row(x, r, first + r, undo, -undo); });
}

void RopeTable::move(Heads<float> x, size_t from, size_t to) {
  if (pairs_ == 0 || from == to) return;
  reach(std::max(from, to), 1);  // checks both positions, although the distance would suffice
  const auto undo = static_cast<float>(1 / magnitude_);
  rotate_row(x, 0, from > to ? from - to : to - from, undo, from > to ? -undo : undo);
}

MeanRotation RopeTable::at(size_t position) const {
  MeanRotation result;
  result.halves = style_ == RopeStyle::kHalves;
  for (const double frequency : frequencies_) {
    const double angle = static_cast<double>(position) * frequency;
    result.cosine.push_back(static_cast<float>(magnitude_ * std::cos(angle)));
    result.sine.push_back(static_cast<float>(magnitude_ * std::sin(angle)));
  }
  return result;
}

MeanRotation RopeTable::mean(size_t first, size_t count) {
  reach(first, count);
  MeanRotation result;
  result.halves = style_ == RopeStyle::kHalves;
  for (std::vector<float>* part : {&result.cosine, &result.sine}) {
    const float* table = table_.data() + (part == &result.cosine ? 0 : pairs_);
    for (size_t i = 0; i < pairs_; ++i) {
      double sum = 0.0;
      for (size_t p = first; p < first + count; ++p) sum += double{table[p * 2 * pairs_ + i]};
      part->push_back(static_cast<float>(sum / static_cast<double>(count)));
    }
  }
  return result;
}

}  // namespace restkv
#endif  // HWY_ONCE
