#include "linear/packed_weight.h"

#include <ggml-cpu.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "base/int8_dot.h"
#include "linear/packed_format.h"
#include "linear/quantized_rows.h"
#include "support/simd.h"

namespace restkv {
namespace {

constexpr size_t kBlock = QuantizedRows::kBlock;

/// Where a block of a type has its quants; the scales are elsewhere.
struct QuantBytes {
  size_t begin, end;
};
QuantBytes quant_bytes(ggml_type type) {
  switch (type) {
    case GGML_TYPE_Q4_1:
    case GGML_TYPE_Q5_1:
      return {4, ggml_type_size(type)};
    case GGML_TYPE_Q4_K:
    case GGML_TYPE_Q5_K:
      return {16, ggml_type_size(type)};
    case GGML_TYPE_Q6_K:
      return {0, 192};
    default:
      return {2, ggml_type_size(type)};
  }
}

/// Random rows of a type, with all bytes of quants replaced by `fill` if there is one; the bytes
/// end where memory that must not be read begins.
class GuardedWeight {
 public:
  GuardedWeight(ggml_type type, size_t rows, size_t cols, std::optional<uint8_t> fill = {})
      : floats_(rows * cols), bytes_(rows * ggml_row_size(type, static_cast<int64_t>(cols))) {
    std::mt19937 rng(static_cast<uint32_t>(rows * 1000 + cols));
    std::normal_distribution<float> normal;
    for (float& v : floats_) v = normal(rng);
    std::vector<char> stored(bytes_);
    ggml_quantize_chunk(type, floats_.data(), stored.data(), 0, static_cast<int64_t>(rows),
                        static_cast<int64_t>(cols), nullptr);
    for (size_t block = 0; fill && block < bytes_; block += ggml_type_size(type)) {
      const auto [begin, end] = quant_bytes(type);
      std::memset(&stored[block + begin], *fill, end - begin);
    }
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
  packed.multiply(rounded.view(), begin, end, {y.data(), x_rows, end - begin});
  return y;
}

/// The instruction sets that multiply bytes; another one, which is skipped, where none does.
std::vector<int64_t> targets() {
  const std::vector<int64_t> all = testing::byte_targets();
  return all.empty() ? std::vector{testing::simd_targets().front()} : all;
}

class PackedWeightTest : public ::testing::TestWithParam<std::tuple<ggml_type, int64_t>> {
 protected:
  void SetUp() override {
    ggml_cpu_init();  // tables of the half-precision conversions
    forced_.emplace(std::get<1>(GetParam()));
    if (!PackedWeight::supports(type())) GTEST_SKIP() << "needs AVX2";
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

/// The largest and smallest quants times the largest numbers: sums in 16 bits, where they are used,
/// come as near to their limits as they can.
TEST_P(PackedWeightTest, DoesNotOverflow) {
  constexpr size_t kCols = 512;
  constexpr size_t kRows = 16;
  std::vector<float> x(4 * kCols, 127.0F);
  for (size_t c = 0; c < kCols; ++c) {
    x[kCols + c] = -127.0F;
    if (c % 2 != 0) x[2 * kCols + c] = -127.0F;
    if (c % 4 < 2) x[3 * kCols + c] = -127.0F;
  }
  for (const uint8_t fill : {0x00, 0xFF, 0x80, 0x7F, 0x0F, 0xF0}) {
    const GuardedWeight stored(type(), kRows, kCols, fill);
    const std::vector<float> y = multiply(stored.weight, 0, kRows, x);
    for (size_t i = 0; i < 4; ++i) {
      for (size_t r = 0; r < kRows; ++r) {
        double sum = 0;
        double magnitude = 0;
        for (size_t c = 0; c < kCols; ++c) {
          const double product = static_cast<double>(stored.row(r)[c]) * x[i * kCols + c];
          sum += product;
          magnitude += std::abs(product);
        }
        EXPECT_NEAR(y[i * kRows + r], sum, 1e-5 * magnitude + 0.05)
            << "quants of " << int{fill} << ", row " << i << ", output " << r;
      }
    }
  }
}

/// One packed row times one rounded row, number by number as the layout is described, with the
/// additions of float32 in the order of the kernels.
template <PackedFormat kFormat>
float slow_product(const uint8_t* panel, size_t r, const QuantizedRows::View& x) {
  constexpr size_t kRows = PackedFormat::kRows;
  const auto half = [&](const uint8_t* p, size_t i) {
    ggml_fp16_t bits;
    std::memcpy(&bits, p + (i * kRows + r) * 2, sizeof(bits));
    return ggml_fp16_to_fp32(bits);
  };
  const uint8_t* header = panel;
  const uint8_t* quants = panel + kFormat.header_bytes(x.blocks);
  float scale = 0;
  float min = 0;
  float sum = 0;
  for (size_t b = 0; b < x.blocks; ++b, quants += kFormat.quant_bytes()) {
    if (b % kFormat.together == 0) {
      scale = half(header, 0);
      if (kFormat.has_min()) min = half(header, 1);
      header += kFormat.half_bytes();
    }
    std::array<uint8_t, 2> scales{};
    for (size_t i = 0; i < kFormat.scales; ++i) scales[i] = header[i * kRows + r];
    header += kFormat.scale_bytes();

    const auto byte = [&](size_t n) { return quants[(n / 4 * kRows + r) * 4 + n % 4]; };
    std::array<int, 2> sums{};  // of the halves of the block
    for (size_t q = 0; q < kBlock; ++q) {
      const size_t v = q % 16 / 4;
      int quant = kFormat.bits == 8 ? byte(q) : q < 16 ? byte(q) & 15 : byte(q - 16) >> 4;
      if (kFormat.bits == 5) quant |= (byte(16 + q % 4) >> (q / 4) & 1) << 4;
      if (kFormat.bits == 6) quant |= (byte(16 + q / 16 * 4 + q % 4) >> (2 * v) & 3) << 4;
      sums[q / 16] += (quant - kFormat.offset()) * x.quants[b * kBlock + q];
    }
    float product;
    if (kFormat.bits == 6) {
      const auto first = static_cast<float>(static_cast<int8_t>(scales[0]));
      const auto second = static_cast<float>(static_cast<int8_t>(scales[1]));
      const float other = static_cast<float>(sums[1]) * second;
      product = std::fma(static_cast<float>(sums[0]), first, other);
    } else {
      product = static_cast<float>(sums[0] + sums[1]);
      if (kFormat.scales == 2) product *= static_cast<float>(scales[0]);
    }
    product *= scale;
    const float x_sum = static_cast<float>(x.sums[b]) / -128;
    if (kFormat.has_min()) {
      const float of_block = kFormat.scales == 2 ? -min * static_cast<float>(scales[1]) : min;
      product = std::fma(of_block, x_sum, product);
    }
    sum = std::fma(product, x.scales[b], sum);
  }
  return sum;
}

/// No instruction set and no number of rows changes a bit.
TEST_P(PackedWeightTest, AddsExactSumsInOneOrder) {
  constexpr size_t kCols = 768;
  constexpr size_t kRows = 21;
  constexpr size_t kLargest = 33;
  const GuardedWeight stored(type(), kRows, kCols);
  std::mt19937 rng(11);
  std::normal_distribution<float> normal;
  std::vector<float> x(kLargest * kCols);
  for (float& v : x) v = normal(rng);
  QuantizedRows rounded;
  rounded.round({x.data(), kLargest, kCols});
  std::vector<float> expected;
  with_packed_format(type(), [&]<PackedFormat kFormat>() {
    constexpr size_t kPanel = PackedFormat::kRows;
    std::vector<uint8_t> panel(kFormat.panel_bytes(kCols / kBlock));
    for (size_t i = 0; i < kLargest; ++i) {
      for (size_t r = 0; r < kRows; ++r) {
        if (r % kPanel == 0) {
          pack_panel(type(), static_cast<const uint8_t*>(stored.weight.row(r)),
                     stored.weight.row_bytes(), std::min(kPanel, kRows - r), kCols / kBlock,
                     panel.data());
        }
        expected.push_back(slow_product<kFormat>(panel.data(), r % kPanel, rounded.view().from(i)));
      }
    }
  });
  for (size_t rows = 1; rows <= kLargest; ++rows) {
    const std::vector<float> some(x.end() - static_cast<std::ptrdiff_t>(rows * kCols), x.end());
    const std::vector<float> y = multiply(stored.weight, 0, kRows, some);
    const float* right = expected.data() + (kLargest - rows) * kRows;
    for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], right[i]) << rows << " rows, " << i;
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
  EXPECT_EQ(PackedWeight::supports(GGML_TYPE_Q4_1), has_int8_pairs());
  EXPECT_FALSE(PackedWeight::supports(GGML_TYPE_Q3_K));
  EXPECT_FALSE(PackedWeight::supports(GGML_TYPE_F16));
}

INSTANTIATE_TEST_SUITE_P(Types, PackedWeightTest,
                         ::testing::Combine(::testing::Values(GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                                              GGML_TYPE_Q5_0, GGML_TYPE_Q5_1,
                                                              GGML_TYPE_Q8_0, GGML_TYPE_Q4_K,
                                                              GGML_TYPE_Q5_K, GGML_TYPE_Q6_K),
                                            ::testing::ValuesIn(targets())),
                         [](const auto& parameter) {
                           return std::string(ggml_type_name(std::get<0>(parameter.param))) + "_" +
                                  testing::simd_target_name(std::get<1>(parameter.param));
                         });

}  // namespace
}  // namespace restkv
