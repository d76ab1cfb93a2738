#include "linear/packed_weight.h"

#include <ggml-cpu.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "base/int8_dot.h"
#include "support/simd.h"

namespace restkv {
namespace {

/// Random rows of a type; the bytes end where memory that must not be read begins.
class GuardedWeight {
 public:
  GuardedWeight(ggml_type type, size_t rows, size_t cols)
      : floats_(rows * cols), bytes_(rows * ggml_row_size(type, static_cast<int64_t>(cols))) {
    std::mt19937 rng(static_cast<uint32_t>(rows * 1000 + cols));
    std::normal_distribution<float> normal;
    for (float& v : floats_) v = normal(rng);
    std::vector<char> stored(bytes_);
    ggml_quantize_chunk(type, floats_.data(), stored.data(), 0, static_cast<int64_t>(rows),
                        static_cast<int64_t>(cols), nullptr);
    ggml_get_type_traits(type)->to_float(stored.data(), floats_.data(),
                                         static_cast<int64_t>(floats_.size()));
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    mapped_ = (bytes_ + page - 1) / page * page + page;
    memory_ = static_cast<char*>(
        mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    char* guard = memory_ + mapped_ - page;
    std::memcpy(guard - bytes_, stored.data(), bytes_);
    EXPECT_EQ(mprotect(guard, page, PROT_NONE), 0);
    weight = {guard - bytes_, type, rows, cols};
  }
  ~GuardedWeight() { munmap(memory_, mapped_); }
  GuardedWeight(const GuardedWeight&) = delete;
  GuardedWeight& operator=(const GuardedWeight&) = delete;

  [[nodiscard]] const float* row(size_t r) const { return floats_.data() + r * weight.cols; }

  Weight weight;

 private:
  std::vector<float> floats_;
  size_t bytes_;
  size_t mapped_;
  char* memory_;
};

/// y [x_rows, end - begin].
std::vector<float> multiply(const Weight& weight, size_t begin, size_t end,
                            const std::vector<float>& x) {
  const PackedWeight packed(weight);
  const size_t x_rows = x.size() / weight.cols;
  QuantizedRows rounded;
  rounded.round({x.data(), x_rows, weight.cols});
  if (packed.needs_first_sums()) rounded.add_first_sums();
  std::vector<float> y(x_rows * (end - begin));
  packed.multiply(rounded, begin, end, {y.data(), x_rows, end - begin});
  return y;
}

/// The instruction sets that have it; another one, which is skipped, where none has.
std::vector<int64_t> targets_with_vnni() {
  std::vector<int64_t> targets;
  for (const int64_t target : testing::simd_targets()) {
    const testing::ForcedSimdTarget forced(target);
    if (has_int8_dot()) targets.push_back(target);
  }
  if (targets.empty()) targets.push_back(testing::simd_targets().front());
  return targets;
}

/// On every instruction set that has it.
class PackedWeightTest : public ::testing::TestWithParam<std::tuple<ggml_type, int64_t>> {
 protected:
  void SetUp() override {
    ggml_cpu_init();  // tables of the half-precision conversions
    forced_.emplace(std::get<1>(GetParam()));
    if (!PackedWeight::supports(type())) GTEST_SKIP() << "needs VNNI";
  }
  [[nodiscard]] static ggml_type type() { return std::get<0>(GetParam()); }

 private:
  std::optional<testing::ForcedSimdTarget> forced_;
};

// Whole numbers of which every 32 reach 127 are not changed by rounding.
std::vector<float> whole_numbers(size_t count) {
  std::mt19937 rng(7);
  std::uniform_int_distribution<int> code(-127, 127);
  std::vector<float> x(count);
  for (size_t i = 0; i < count; ++i) x[i] = i % 32 == 5 ? 127.0F : static_cast<float>(code(rng));
  return x;
}

TEST_P(PackedWeightTest, IsExactWhereNothingIsRounded) {
  for (const size_t cols : {32, 64, 96, 128, 512, 544, 576, 1024, 1120, 1536}) {
    if (cols % static_cast<size_t>(ggml_blck_size(type())) != 0) continue;
    for (const size_t rows : {1, 2, 16, 40}) {
      const GuardedWeight stored(type(), rows, cols);
      const std::vector<float> x = whole_numbers(3 * cols);
      const size_t begin = rows / 3 / PackedWeight::kPanel * PackedWeight::kPanel;
      const std::vector<float> y = multiply(stored.weight, begin, rows, x);
      for (size_t i = 0; i < 3; ++i) {
        for (size_t r = begin; r < rows; ++r) {
          double sum = 0;
          double magnitude = 0;
          for (size_t c = 0; c < cols; ++c) {
            const double product = static_cast<double>(stored.row(r)[c]) * x[i * cols + c];
            sum += product;
            magnitude += std::abs(product);
          }
          // Codes times steps and minima are summed apart, each larger than their difference.
          EXPECT_NEAR(y[i * (rows - begin) + r - begin], sum, 4e-6 * magnitude)
              << "row " << r << " of " << rows << " x " << cols;
        }
      }
    }
  }
}

TEST_P(PackedWeightTest, DoesNotDependOnWhereARowLies) {
  constexpr size_t kCols = 512;
  constexpr size_t kRows = 20;
  const GuardedWeight one(type(), 1, kCols);
  std::vector<char> copies;
  const auto* bytes = static_cast<const char*>(one.weight.data);
  for (size_t r = 0; r < kRows; ++r)
    copies.insert(copies.end(), bytes, bytes + one.weight.row_bytes());
  const std::vector<float> x = whole_numbers(kCols);
  const float expected = multiply(one.weight, 0, 1, x)[0];
  for (const float y : multiply({copies.data(), type(), kRows, kCols}, 0, kRows, x)) {
    EXPECT_EQ(y, expected);
  }
}

TEST_P(PackedWeightTest, PassesOnWhatIsNoNumber) {
  constexpr size_t kCols = 256;
  const GuardedWeight stored(type(), 3, kCols);
  std::vector<float> x(3 * kCols);  // one row stays zero
  x[0 * kCols + 40] = std::numeric_limits<float>::quiet_NaN();
  x[1 * kCols + 255] = -std::numeric_limits<float>::infinity();
  const std::vector<float> y = multiply(stored.weight, 0, 3, x);
  for (size_t i = 0; i < 6; ++i) EXPECT_TRUE(std::isnan(y[i])) << i;
  for (size_t i = 6; i < 9; ++i) EXPECT_EQ(y[i], 0) << i;
}

TEST(PackedWeight, IsForTypesAndProcessorsThatHaveIt) {
  EXPECT_EQ(PackedWeight::supports(GGML_TYPE_Q4_1), has_int8_dot());
  EXPECT_FALSE(PackedWeight::supports(GGML_TYPE_Q3_K));
  EXPECT_FALSE(PackedWeight::supports(GGML_TYPE_F16));
}

INSTANTIATE_TEST_SUITE_P(Types, PackedWeightTest,
                         ::testing::Combine(::testing::Values(GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                                              GGML_TYPE_Q5_0, GGML_TYPE_Q5_1,
                                                              GGML_TYPE_Q8_0, GGML_TYPE_Q4_K,
                                                              GGML_TYPE_Q5_K, GGML_TYPE_Q6_K),
                                            ::testing::ValuesIn(targets_with_vnni())),
                         [](const auto& parameter) {
                           return std::string(ggml_type_name(std::get<0>(parameter.param))) + "_" +
                                  testing::simd_target_name(std::get<1>(parameter.param));
                         });

}  // namespace
}  // namespace restkv
