#include "linear/prompt_weight.h"

#include <ggml-cpu.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/threads.h"
#include "linear/int8_rows.h"
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

class PromptWeightTest : public ::testing::TestWithParam<LinearPrecision> {
 protected:
  static void SetUpTestSuite() { ggml_cpu_init(); }
  void SetUp() override {
    if (!supports(GetParam())) GTEST_SKIP() << "not on this processor";
    const auto source = normal_floats(kRows * kCols, 1);
    bytes_.resize(kRows * ggml_row_size(GGML_TYPE_Q4_1, kCols));
    ggml_quantize_chunk(GGML_TYPE_Q4_1, source.data(), bytes_.data(), 0, kRows, kCols, nullptr);
    weight_ = {bytes_.data(), GGML_TYPE_Q4_1, kRows, kCols};
    // Two parts of different types.
    linear_ = Linear({weight_, {source_.data(), GGML_TYPE_F32, 17, kCols}});
  }
  std::vector<float> source_ = normal_floats(17 * kCols, 2);
  AlignedVector<char> bytes_;
  Weight weight_;
  Linear linear_;
};

/// How far each rounding may take a product, from what is rounded: half a unit in the last place of
/// bfloat16 (2^-9 of the number), half a step of 1/127 of the row's largest number.
double half_step(LinearPrecision precision, const float* row, size_t i) {
  if (precision == LinearPrecision::kF32) return 0;
  if (precision == LinearPrecision::kBf16) return 0x1p-9 * std::abs(row[i]);
  float top = 0;
  for (size_t c = 0; c < kCols; ++c) top = std::max(top, std::abs(row[c]));
  return 0.5001 * top / 127;
}

TEST_P(PromptWeightTest, ANarrowerResultGetsSomeOutputs) {
  PromptWeight weight;
  weight.convert(linear_, GetParam());
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
  weight.convert(linear_, GetParam());
  const auto x = normal_floats(kInputs * (kCols + 3), 3);
  const Matrix<const float> inputs(x.data(), kInputs, kCols, kCols + 3);
  const size_t stride = linear_.rows() + 5;
  std::vector<float> y(kInputs * stride, -77.0F);
  weight.multiply(inputs, {y.data(), kInputs, linear_.rows(), stride});

  AlignedVector<float> storage;
  const Matrix<const float> w = linear_.densify(storage);
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
        const double a_error = half_step(GetParam(), inputs.row(i), c);
        const double b_error = half_step(GetParam(), w.row(r), c);
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
  const double largest = GetParam() == LinearPrecision::kF32    ? 1e-6
                         : GetParam() == LinearPrecision::kBf16 ? 0.004
                                                                : 0.02;
  EXPECT_LE(std::sqrt(error / norm), largest);
}

TEST_P(PromptWeightTest, ResultsDoNotDependOnThreads) {
  PromptWeight weight;
  const auto x = normal_floats(kInputs * kCols, 4);
  const int before = num_threads();
  std::vector<float> expected;
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    weight.convert(linear_, GetParam());
    std::vector<float> y(kInputs * linear_.rows());
    weight.multiply({x.data(), kInputs, kCols}, {y.data(), kInputs, linear_.rows()});
    if (expected.empty()) expected = y;
    EXPECT_EQ(y, expected) << threads << " threads";
  }
  set_num_threads(before);
}

TEST_P(PromptWeightTest, PassesOnWhatIsNoNumber) {
  PromptWeight weight;
  weight.convert(linear_, GetParam());
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

INSTANTIATE_TEST_SUITE_P(Precisions, PromptWeightTest,
                         ::testing::Values(LinearPrecision::kF32, LinearPrecision::kBf16,
                                           LinearPrecision::kInt8),
                         [](const auto& test) {
                           return std::string(linear_precision_name(test.param));
                         });

TEST(Int8Rows, RoundToTheNearestStepOnEveryInstructionSet) {
  for (const int64_t target : testing::simd_targets()) {
    SCOPED_TRACE(testing::simd_target_name(target));
    const testing::ForcedSimdTarget forced(target);
    for (const size_t n : {1, 16, 83}) {
      const auto x = normal_floats(n, 6);
      std::vector<int8_t> codes(n);
      const float step = round_to_int8(x.data(), n, codes.data());
      for (size_t i = 0; i < n; ++i) ASSERT_NEAR(x[i], step * codes[i], 0.5001 * step) << i;

      std::vector<int32_t> sums(n);
      for (size_t i = 0; i < n; ++i) sums[i] = 1000 * codes[i];
      std::vector<float> y(n);
      std::memcpy(y.data(), sums.data(), n * sizeof(float));
      scale_sums(y.data(), n, 2.0F, x.data());
      for (size_t i = 0; i < n; ++i) ASSERT_FLOAT_EQ(y[i], 2000.0F * codes[i] * x[i]) << i;
    }
    std::vector<int8_t> codes(20, 1);
    const std::vector<float> zeros(20, 0.0F);
    EXPECT_EQ(round_to_int8(zeros.data(), 20, codes.data()), 0.0F);
    EXPECT_THAT(codes, ::testing::Each(0));
  }
}

TEST(LinearPrecisions, AreFoundByName) {
  for (const auto precision :
       {LinearPrecision::kF32, LinearPrecision::kBf16, LinearPrecision::kInt8}) {
    EXPECT_EQ(find_linear_precision(linear_precision_name(precision)), precision);
  }
  EXPECT_EQ(find_linear_precision("auto"),
            supports(LinearPrecision::kBf16) ? LinearPrecision::kBf16 : LinearPrecision::kF32);
  try {
    find_linear_precision("fp8");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(e.what(), ::testing::HasSubstr("'fp8'"));
  }
}

/// oneDNN is told to believe in less than the processor has: in a child, since it is asked once.
TEST(LinearPrecisionsDeathTest, AreRefusedWhereTheProcessorLacksThem) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  EXPECT_EXIT(
      {
        setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1);
        bool refused = find_linear_precision("auto") == LinearPrecision::kF32;
        for (const auto precision : {LinearPrecision::kBf16, LinearPrecision::kInt8}) {
          try {
            require_support(precision);
            refused = false;
          } catch (const Error& e) {
            refused = refused && e.code() == ErrorCode::kUnsupported &&
                      std::string(e.what()).find("use f32") != std::string::npos;
          }
        }
        std::exit(refused ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace restkv
