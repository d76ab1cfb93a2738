#include "linear/prompt_weight.h"

#include <ggml-cpu.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/int8_dot.h"
#include "base/threads.h"
#include "linear/int8_weight.h"
#include "linear/linear_precision.h"
#include "restkv/error.h"
#include "support/simd.h"

namespace restkv {
namespace {

constexpr size_t kCols = 512;
constexpr size_t kRows = 300;    // more than one task, the last one broken
constexpr size_t kInputs = 130;  // of a prompt

std::vector<float> normal_floats(size_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(count);
  std::generate(x.begin(), x.end(), [&] { return normal(rng); });
  return x;
}

struct Case {
  LinearPrecision precision;
  int64_t target = 0;  ///< 0: any.
  bool packed = false;
};

/// Every precision, 8 bits on every instruction set and with weights that can all be packed, too.
std::vector<Case> cases() {
  std::vector<Case> all{{LinearPrecision::kF32}, {LinearPrecision::kBf16}};
  for (const int64_t target : testing::byte_targets()) {
    for (const bool packed : {false, true}) all.push_back({LinearPrecision::kInt8, target, packed});
  }
  return all;
}

class PromptWeightTest : public ::testing::TestWithParam<Case> {
 protected:
  static void SetUpTestSuite() { ggml_cpu_init(); }
  void SetUp() override {
    if (GetParam().target != 0) forced_.emplace(GetParam().target);
    if (!supports(precision())) GTEST_SKIP() << "not on this processor";
    const auto source = normal_floats(kRows * kCols, 1);
    bytes_.resize(kRows * ggml_row_size(GGML_TYPE_Q4_1, kCols));
    ggml_quantize_chunk(GGML_TYPE_Q4_1, source.data(), bytes_.data(), 0, kRows, kCols, nullptr);
    weight_ = {bytes_.data(), GGML_TYPE_Q4_1, kRows, kCols};
    // Two parts of different types; float32 is not packed.
    const Weight other{source_.data(), GGML_TYPE_F32, 17, kCols};
    linear_ = Linear({weight_, GetParam().packed ? weight_ : other});
  }
  static LinearPrecision precision() { return GetParam().precision; }
  std::vector<float> source_ = normal_floats(17 * kCols, 2);
  AlignedVector<char> bytes_;
  Weight weight_;
  Linear linear_;

 private:
  std::optional<testing::ForcedSimdTarget> forced_;
};

/// How far each rounding may take a product, from what is rounded: half a unit in the last place of
/// bfloat16 (2^-9 of the number), half a step of 1/127 of the block's largest number.
double half_step(LinearPrecision precision, const float* row, size_t i) {
  if (precision == LinearPrecision::kF32) return 0;
  if (precision == LinearPrecision::kBf16) return 0x1p-9 * std::abs(row[i]);
  float top = 0;
  const size_t block = i / Int8Weight::kBlock * Int8Weight::kBlock;
  for (size_t c = 0; c < Int8Weight::kBlock; ++c) top = std::max(top, std::abs(row[block + c]));
  return 0.5001 * top / 127;
}

TEST_P(PromptWeightTest, ANarrowerResultGetsSomeOutputs) {
  PromptWeight weight;
  weight.convert(linear_, precision());
  const auto x = normal_floats(kInputs * kCols, 4);
  const Matrix<const float> inputs(x.data(), kInputs, kCols);
  const size_t rows = linear_.rows();
  std::vector<float> all(kInputs * rows);
  weight.multiply(inputs, {all.data(), kInputs, rows});
  constexpr size_t kFirst = 192;
  constexpr size_t kCount = 120;  // beyond the first of the two parts
  std::vector<float> some(kInputs * kCount);
  weight.multiply(inputs, {some.data(), kInputs, kCount}, kFirst);
  for (size_t i = 0; i < kInputs; ++i) {
    for (size_t r = 0; r < kCount; ++r) {
      ASSERT_NEAR(some[i * kCount + r], all[i * rows + kFirst + r], 1e-3) << i << ", " << r;
    }
  }
}

TEST_P(PromptWeightTest, StaysWithinItsRounding) {
  PromptWeight weight;
  weight.convert(linear_, precision());
  const auto x = normal_floats(kInputs * (kCols + 3), 3);
  const Matrix<const float> inputs(x.data(), kInputs, kCols, kCols + 3);
  const size_t stride = linear_.rows() + 5;
  std::vector<float> y(kInputs * stride, -77.0F);
  weight.multiply(inputs, {y.data(), kInputs, linear_.rows(), stride});

  AlignedVector<float> storage;
  const Matrix<const float> w = linear_.dequantize(storage);
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < kInputs; i += 43) {
    for (size_t r = 0; r < stride; ++r) {
      const float actual = y[i * stride + r];
      if (r >= linear_.rows()) {
        ASSERT_EQ(actual, -77.0F) << "written beyond the row";
        continue;
      }
      double sum = 0;
      double bound = 0;
      for (size_t c = 0; c < kCols; ++c) {
        const double a = inputs.row(i)[c];
        const double b = w.row(r)[c];
        const double a_error = half_step(precision(), inputs.row(i), c);
        const double b_error = half_step(precision(), w.row(r), c);
        sum += a * b;
        bound += std::abs(a) * b_error + std::abs(b) * a_error + a_error * b_error +
                 1e-6 * std::abs(a * b);
      }
      ASSERT_NEAR(actual, sum, bound) << "row " << i << ", output " << r;
      error += (actual - sum) * (actual - sum);
      norm += sum * sum;
    }
  }
  // Errors point in all directions: together they are far smaller.
  const double largest = precision() == LinearPrecision::kF32    ? 1e-6
                         : precision() == LinearPrecision::kBf16 ? 0.004
                                                                 : 0.01;
  EXPECT_LE(std::sqrt(error / norm), largest);
}

TEST_P(PromptWeightTest, ResultsDoNotDependOnThreads) {
  PromptWeight weight;
  const auto x = normal_floats(kInputs * kCols, 4);
  const int before = num_threads();
  std::vector<float> expected;
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    weight.convert(linear_, precision());
    std::vector<float> y(kInputs * linear_.rows());
    weight.multiply({x.data(), kInputs, kCols}, {y.data(), kInputs, linear_.rows()});
    if (expected.empty()) expected = y;
    EXPECT_EQ(y, expected) << threads << " threads";
  }
  set_num_threads(before);
}

TEST_P(PromptWeightTest, PassesOnWhatIsNoNumber) {
  PromptWeight weight;
  weight.convert(linear_, precision());
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    auto x = normal_floats(3 * kCols, 5);
    x[kCols + 7] = bad;
    std::vector<float> y(3 * linear_.rows());
    weight.multiply({x.data(), 3, kCols}, {y.data(), 3, linear_.rows()});
    const auto finite = [&](size_t row) {
      return std::ranges::any_of(std::span(y).subspan(row * linear_.rows(), linear_.rows()),
                                 [](float v) { return std::isfinite(v); });
    };
    EXPECT_TRUE(finite(0));
    EXPECT_FALSE(finite(1)) << bad;
    EXPECT_TRUE(finite(2));
  }
}

INSTANTIATE_TEST_SUITE_P(Precisions, PromptWeightTest, ::testing::ValuesIn(cases()),
                         [](const auto& test) {
                           const Case& c = test.param;
                           std::string name(linear_precision_name(c.precision));
                           if (c.target != 0) name += "_" + testing::simd_target_name(c.target);
                           return c.packed ? name + "_packed" : name;
                         });

/// The row in blocks of whole numbers of a step that fits the block's largest, as numbers.
std::vector<double> rounded(const float* row, size_t n) {
  std::vector<double> out(n);
  for (size_t begin = 0; begin < n; begin += Int8Weight::kBlock) {
    const size_t end = std::min(n, begin + Int8Weight::kBlock);
    float top = 0;
    for (size_t i = begin; i < end; ++i) top = std::max(top, std::abs(row[i]));
    const float step = top / 127;
    for (size_t i = begin; i < end && top > 0; ++i) {
      out[i] = double{step} * std::nearbyint(row[i] * (127 / top));
    }
  }
  return out;
}

/// Sums of rounded numbers are exact but for the last addition of blocks: a slow product of the
/// same numbers must agree to float32, whatever the sizes. One block is all zeros, one number the
/// largest there is by far.
TEST(Int8Weights, MultiplyWhatIsRoundedOnEveryInstructionSet) {
  for (const int64_t target : testing::byte_targets()) {
    const testing::ForcedSimdTarget forced(target);
    SCOPED_TRACE(testing::simd_target_name(target));
    for (const auto& [n, rows, cols] : {std::array<size_t, 3>{1, 1, 1},
                                        {5, 31, 33},
                                        {7, 33, 64},
                                        {130, 200, 576},
                                        {9, 70, 1700}}) {
      SCOPED_TRACE(::testing::Message() << n << " x " << cols << " x " << rows);
      auto x = normal_floats(n * cols, 6);
      auto w = normal_floats(rows * cols, 7);
      std::fill_n(x.begin(), std::min<size_t>(cols, Int8Weight::kBlock), 0.0F);
      w.back() = 1000;
      Int8Weight weight;
      weight.convert(rows, cols,
                     [&](size_t r, float* out) { std::copy_n(&w[r * cols], cols, out); });
      std::vector<float> y(n * rows);
      weight.multiply({x.data(), n, cols}, {y.data(), n, rows});
      for (size_t i = 0; i < n; ++i) {
        const auto a = rounded(&x[i * cols], cols);
        for (size_t r = 0; r < rows; r += 1 + rows / 40) {
          const auto b = rounded(&w[r * cols], cols);
          double sum = 0;
          double size = 0;
          for (size_t c = 0; c < cols; ++c) {
            sum += a[c] * b[c];
            size += std::abs(a[c] * b[c]);
          }
          ASSERT_NEAR(y[i * rows + r], sum, 1e-6 * size) << "row " << i << ", output " << r;
        }
      }
    }
  }
}

TEST(Int8Weights, AllOfTheOutputsOfOneRowOfWeightsShowWhatIsNoNumber) {
  if (!has_int8_pairs()) GTEST_SKIP() << "not on this processor";
  auto w = normal_floats(40 * 64, 8);
  w[35 * 64 + 3] = std::numeric_limits<float>::quiet_NaN();
  Int8Weight weight;
  weight.convert(40, 64, [&](size_t r, float* out) { std::copy_n(&w[r * 64], 64, out); });
  const auto x = normal_floats(3 * 64, 9);
  std::vector<float> y(3 * 40);
  weight.multiply({x.data(), 3, 64}, {y.data(), 3, 40});
  for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i % 40 == 35) << i;
}

TEST(LinearPrecisions, AreFoundByName) {
  for (const auto precision :
       {LinearPrecision::kF32, LinearPrecision::kBf16, LinearPrecision::kInt8}) {
    EXPECT_EQ(find_linear_precision(linear_precision_name(precision)), precision);
  }
  EXPECT_TRUE(supports(find_linear_precision("auto")));
  try {
    find_linear_precision("fp8");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(e.what(), ::testing::HasSubstr("'fp8'"));
  }
}

bool refuses(LinearPrecision precision) {
  try {
    require_support(precision);
    return false;
  } catch (const Error& e) {
    return e.code() == ErrorCode::kUnsupported &&
           std::string(e.what()).find("use f32") != std::string::npos;
  }
}

/// oneDNN is told to believe in less than the processor has: in a child, since it is asked once.
/// Our own kernels are kept to the least there is.
TEST(LinearPrecisionsDeathTest, AreRefusedWhereTheProcessorLacksThem) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1);
        const testing::ForcedSimdTarget forced(std::ranges::max(testing::simd_targets()));
        const bool right = find_linear_precision("auto") == LinearPrecision::kF32 &&
                           refuses(LinearPrecision::kBf16) && refuses(LinearPrecision::kInt8);
        std::exit(right ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace restkv
