// The building blocks of the kernels, on every instruction set.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "support/simd.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "base/vector_test.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "base/gemm-inl.h"
#include "base/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

size_t Lanes() { return hn::MaxLanes(hn::CappedTag<float, 16>()); }

/// Applies Exp2, Exp or Tanh to numbers whose count is a multiple of 16.
void Apply(char function, const float* x, size_t count, float* y) {
  const hn::CappedTag<float, 16> d;
  for (size_t i = 0; i < count; i += hn::Lanes(d)) {
    const auto v = hn::LoadU(d, x + i);
    hn::StoreU(function == '2' ? Exp2(d, v) : function == 'e' ? Exp(d, v) : Tanh(d, v), d, y + i);
  }
}

void Multiply(bool accumulate, size_t rows, size_t cols, size_t depth, const float* a,
              size_t a_stride, const float* b, size_t b_stride, float* c, size_t c_stride) {
  const hn::CappedTag<float, 16> d;
  if (accumulate) {
    SmallProduct<true>(d, rows, cols, depth, a, a_stride, b, b_stride, c, c_stride);
  } else {
    SmallProduct<false>(d, rows, cols, depth, a, a_stride, b, b_stride, c, c_stride);
  }
}

void Transpose(const float* src, size_t rows, size_t cols, size_t src_stride, float* dst,
               size_t dst_stride, size_t padded_rows) {
  TransposePadded(src, rows, cols, src_stride, dst, dst_stride, padded_rows);
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(Lanes);
HWY_EXPORT(Apply);
HWY_EXPORT(Multiply);
HWY_EXPORT(Transpose);

namespace {

class VectorTest : public ::testing::TestWithParam<int64_t> {
 protected:
  static std::vector<float> apply(char function, std::vector<float> x) {
    const size_t count = x.size();
    x.resize((count + 15) / 16 * 16);
    std::vector<float> y(x.size());
    HWY_DYNAMIC_DISPATCH(Apply)(function, x.data(), x.size(), y.data());
    y.resize(count);
    return y;
  }
  static std::vector<float> range(double begin, double end, size_t count) {
    std::vector<float> x(count);
    for (size_t i = 0; i < count; ++i) {
      x[i] = static_cast<float>(begin + (end - begin) * static_cast<double>(i) /
                                            static_cast<double>(count - 1));
    }
    return x;
  }
  static std::vector<float> random(size_t count) {
    static std::mt19937 rng(1);
    std::normal_distribution<float> normal;
    std::vector<float> x(count);
    std::generate(x.begin(), x.end(), [&] { return normal(rng); });
    return x;
  }

  testing::ForcedSimdTarget forced_{GetParam()};
};

TEST_P(VectorTest, Exp2) {
  const auto x = range(-126, 127, 500'000);
  const auto y = apply('2', x);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp2(static_cast<double>(x[i]));
    worst = std::max(worst, std::abs(y[i] - exact) / exact);
  }
  EXPECT_LE(worst, 3e-7);
  for (int n = -126; n <= 127; ++n) {
    EXPECT_EQ(apply('2', {static_cast<float>(n)})[0], std::ldexp(1.0F, n)) << "2^" << n;
  }
  for (const float low : {-127.0F, -1e4F, -1e30F, -std::numeric_limits<float>::infinity()}) {
    const float tiny = apply('2', {low})[0];
    EXPECT_TRUE(tiny >= 0 && tiny <= 0x1p-126F) << "2^" << low << " = " << tiny;
  }
}

TEST_P(VectorTest, Exp) {
  // The product x log2(e) is rounded: half a unit of up to 127 in the exponent, ln(2) of it in e^x.
  const auto x = range(-87, 88, 500'000);
  const auto y = apply('e', x);
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp(static_cast<double>(x[i]));
    ASSERT_LE(std::abs(y[i] - exact) / exact, 3e-7 + 2e-7 * std::abs(x[i])) << "e^" << x[i];
  }
  EXPECT_EQ(apply('e', {0.0F})[0], 1.0F);
}

TEST_P(VectorTest, Tanh) {
  auto x = range(-25, 25, 500'000);
  for (const float special : {0.0F, -0.0F, 1e-8F, 1e4F, -1e4F, 3e38F, -3e38F}) x.push_back(special);
  x.push_back(std::numeric_limits<float>::infinity());
  x.push_back(-std::numeric_limits<float>::infinity());
  const auto y = apply('t', x);
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double error = std::abs(y[i] - std::tanh(static_cast<double>(x[i])));
    worst = std::isnan(error) ? 1 : std::max(worst, error);
  }
  EXPECT_LE(worst, 3e-7);
}

TEST_P(VectorTest, SmallProducts) {
  const size_t lanes = HWY_DYNAMIC_DISPATCH(Lanes)();
  for (const size_t rows : {1, 5, 6, 7, 12, 20}) {
    for (const size_t vectors : {1, 2, 3, 4, 5, 9}) {
      for (const size_t depth : {0, 1, 7, 64}) {
        const size_t cols = vectors * lanes;
        const size_t a_stride = depth + 3;
        const size_t b_stride = cols + 1;
        const size_t c_stride = cols + 5;
        const auto a = random(rows * a_stride);
        const auto b = random((depth + 1) * b_stride);
        const auto before = random(rows * c_stride);
        for (const bool accumulate : {false, true}) {
          auto c = before;
          HWY_DYNAMIC_DISPATCH(Multiply)
          (accumulate, rows, cols, depth, a.data(), a_stride, b.data(), b_stride, c.data(),
           c_stride);
          for (size_t i = 0; i < rows; ++i) {
            for (size_t j = 0; j < c_stride; ++j) {
              const size_t at = i * c_stride + j;
              if (j >= cols) {
                ASSERT_EQ(c[at], before[at]) << "beyond the last column";
                continue;
              }
              double sum = accumulate ? static_cast<double>(before[at]) : 0.0;
              double magnitude = std::abs(sum);
              for (size_t k = 0; k < depth; ++k) {
                const double x = static_cast<double>(a[i * a_stride + k]) * b[k * b_stride + j];
                sum += x;
                magnitude += std::abs(x);
              }
              ASSERT_NEAR(c[at], sum, 0x1p-21 * magnitude)
                  << rows << " x " << cols << " x " << depth << " at " << i << ", " << j;
            }
          }
        }
      }
    }
  }
}

TEST_P(VectorTest, Transposes) {
  for (const size_t rows : {1, 15, 16, 17, 64}) {
    for (const size_t cols : {1, 7, 64}) {
      const size_t padded = 64;
      const size_t src_stride = cols + 2;
      const size_t dst_stride = padded + 1;
      const auto src = random(rows * src_stride);
      std::vector<float> dst(cols * dst_stride, -1.0F);
      HWY_DYNAMIC_DISPATCH(Transpose)
      (src.data(), rows, cols, src_stride, dst.data(), dst_stride, padded);
      for (size_t c = 0; c < cols; ++c) {
        for (size_t r = 0; r < dst_stride; ++r) {
          const float expected = r < rows ? src[r * src_stride + c] : r < padded ? 0.0F : -1.0F;
          ASSERT_EQ(dst[c * dst_stride + r], expected) << rows << " x " << cols;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Simd, VectorTest, ::testing::ValuesIn(testing::simd_targets()),
                         [](const auto& test) { return testing::simd_target_name(test.param); });

}  // namespace
}  // namespace restkv
#endif  // HWY_ONCE
