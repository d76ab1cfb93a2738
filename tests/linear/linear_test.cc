#include "linear/linear.h"

#include <ggml-cpu.h>
#include <gtest/gtest.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/threads.h"
#include "make_model/random_model.h"
#include "support/random_blocks.h"
#include "support/simd.h"

namespace restkv {
namespace {

std::vector<float> normal_floats(size_t count, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(count);
  std::generate(x.begin(), x.end(), [&] { return normal(rng); });
  return x;
}

std::vector<ggml_type> supported_types() {
  std::vector<ggml_type> types;
  for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
    if (is_supported(static_cast<ggml_type>(i))) types.push_back(static_cast<ggml_type>(i));
  }
  return types;
}

/// Random weights in a ggml type.
class StoredWeight {
 public:
  StoredWeight(ggml_type type, size_t rows, size_t cols)
      : type_(type), rows_(rows), cols_(cols), bytes_(rows * ggml_row_size(type, as_signed(cols))) {
    if (testing::is_slow_to_make(type)) {
      const std::string blocks =
          testing::random_blocks(type, rows * cols, 1, static_cast<uint32_t>(type));
      std::ranges::copy(blocks, bytes_.begin());
      return;
    }
    const auto source = normal_floats(rows * cols, static_cast<uint32_t>(type));
    const std::vector<float> importance(cols, 1.0F);  // some types need it
    ggml_quantize_chunk(type, source.data(), bytes_.data(), 0, as_signed(rows), as_signed(cols),
                        importance.data());
  }
  /// The first rows alone.
  [[nodiscard]] StoredWeight head(size_t rows) const {
    StoredWeight first = *this;
    first.rows_ = rows;
    return first;
  }
  [[nodiscard]] Weight view() const { return {bytes_.data(), type_, rows_, cols_}; }
  [[nodiscard]] size_t rows() const { return rows_; }

  /// ggml's own conversion to floats.
  [[nodiscard]] std::vector<float> floats() const {
    std::vector<float> out(rows_ * cols_);
    if (type_ == GGML_TYPE_F32) {
      std::copy_n(reinterpret_cast<const float*>(bytes_.data()), out.size(), out.data());
    } else {
      ggml_get_type_traits(type_)->to_float(bytes_.data(), out.data(), as_signed(rows_ * cols_));
    }
    return out;
  }

 private:
  static int64_t as_signed(size_t n) { return static_cast<int64_t>(n); }
  ggml_type type_;
  size_t rows_, cols_;
  AlignedVector<char> bytes_;
};

/// Products in float64 of each row of x with each row of the stacked weights; beside each the
/// products of the magnitudes, and what rounding x may add.
struct Products {
  std::vector<double> sums, magnitudes, input_errors;
};

/// How far `partner` may move a number of a block of x, as a part of the block's largest magnitude
/// (for 8-bit blocks: half a step of 1/127, plus the half-precision rounding of the step) or of the
/// number itself (for 16-bit floats: half a unit in the last place).
double block_error(ggml_type partner) {
  switch (partner) {
    case GGML_TYPE_Q8_0:
    case GGML_TYPE_Q8_1:
    case GGML_TYPE_Q8_K:
      return 0.5 / 127 + 0x1p-10;
    default:
      return 0;
  }
}
double relative_error(ggml_type partner) {
  return partner == GGML_TYPE_F16 ? 0x1p-11 : partner == GGML_TYPE_BF16 ? 0x1p-8 : 0;
}

Products multiply_in_double(const std::vector<float>& x, size_t x_rows, size_t cols,
                            const std::vector<const StoredWeight*>& parts) {
  Products products;
  std::vector<std::vector<float>> weights;
  weights.reserve(parts.size());
  for (const StoredWeight* part : parts) weights.push_back(part->floats());
  for (size_t i = 0; i < x_rows; ++i) {
    for (size_t p = 0; p < parts.size(); ++p) {
      const ggml_type partner = ggml_get_type_traits_cpu(parts[p]->view().type)->vec_dot_type;
      const auto block = static_cast<size_t>(ggml_blck_size(partner));
      for (size_t r = 0; r < parts[p]->rows(); ++r) {
        double sum = 0;
        double magnitude = 0;
        double input_error = 0;
        for (size_t begin = 0; begin < cols; begin += block) {
          double largest = 0;
          double weight_sum = 0;
          for (size_t c = begin; c < begin + block; ++c) {
            const double a = x[i * cols + c];
            const double b = weights[p][r * cols + c];
            sum += a * b;
            magnitude += std::abs(a * b);
            largest = std::max(largest, std::abs(a));
            weight_sum += std::abs(b);
            input_error += relative_error(partner) * std::abs(a * b);
          }
          input_error += block_error(partner) * largest * weight_sum;
        }
        products.sums.push_back(sum);
        products.magnitudes.push_back(magnitude);
        products.input_errors.push_back(input_error);
      }
    }
  }
  return products;
}

/// ||actual - expected|| / ||expected||.
double relative_distance(const std::vector<float>& actual, const std::vector<double>& expected) {
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(difference / norm);
}

class LinearTest : public ::testing::TestWithParam<ggml_type> {
 protected:
  static void SetUpTestSuite() { ggml_cpu_init(); }  // tables of the half-precision conversions
};

TEST_P(LinearTest, MultipliesDenseAndStored) {
  constexpr size_t kCols = 512;
  const StoredWeight all(GetParam(), 70, kCols);
  for (const size_t rows : {1, 16, 37, 70}) {
    const StoredWeight weight = all.head(rows);
    const Linear linear({weight.view()});
    ASSERT_EQ(linear.rows(), rows);
    ASSERT_EQ(linear.cols(), kCols);
    AlignedVector<float> storage;
    const Matrix<const float> dense = linear.dequantize(storage);
    const auto floats = weight.floats();
    ASSERT_TRUE(std::equal(floats.begin(), floats.end(), dense.data));
    for (const size_t x_rows : {1, 2, 7}) {
      const auto x = normal_floats(x_rows * kCols, 99);
      const auto expected = multiply_in_double(x, x_rows, kCols, {&weight});
      std::vector<float> y(x_rows * rows);
      multiply_dense({x.data(), x_rows, kCols}, dense, {y.data(), x_rows, rows});
      EXPECT_LE(relative_distance(y, expected.sums), 1e-4);
      for (size_t i = 0; i < y.size(); ++i) {
        ASSERT_NEAR(y[i], expected.sums[i], 1e-6 * expected.magnitudes[i]) << "dense, " << i;
      }

      std::fill(y.begin(), y.end(), -1e30F);
      linear.multiply_stored({x.data(), x_rows, kCols}, {y.data(), x_rows, rows},
                             StoredProduct::kUnpacked);
      for (size_t i = 0; i < y.size(); ++i) {
        ASSERT_NEAR(y[i], expected.sums[i], 1e-6 * expected.magnitudes[i]) << "unpacked, " << i;
      }

      std::fill(y.begin(), y.end(), -1e30F);
      linear.multiply_stored({x.data(), x_rows, kCols}, {y.data(), x_rows, rows},
                             StoredProduct::kRounded);
      for (size_t i = 0; i < y.size(); ++i) {
        ASSERT_NEAR(y[i], expected.sums[i],
                    1e-6 * expected.magnitudes[i] + expected.input_errors[i])
            << "rounded, " << i;
      }
      // Rounding errors of the inputs point in all directions: together they are far smaller.
      const bool eight_bits = block_error(ggml_get_type_traits_cpu(GetParam())->vec_dot_type) > 0;
      if (y.size() >= 37) {
        EXPECT_LE(relative_distance(y, expected.sums), eight_bits ? 0.02 : 0.003);
      }
    }
  }
}

/// On every instruction set, also where the number of columns does not fill its vectors.
TEST_P(LinearTest, UnpacksOnEveryInstructionSet) {
  const auto block = static_cast<size_t>(ggml_blck_size(GetParam()));
  const size_t cols = block == 1 ? 83 : 2 * block;
  const StoredWeight weight(GetParam(), 11, cols);
  const auto floats = weight.floats();
  for (const int64_t target : testing::simd_targets()) {
    SCOPED_TRACE(testing::simd_target_name(target));
    const testing::ForcedSimdTarget forced(target);
    for (size_t r = 0; r < weight.rows(); ++r) {
      std::vector<float> row(cols, -77.0F);
      dequantize_row(weight.view(), r, row.data());
      ASSERT_TRUE(std::equal(row.begin(), row.end(), &floats[r * cols])) << "row " << r;
    }
    const Linear linear({weight.view()});
    for (size_t x_rows = 1; x_rows <= 14; ++x_rows) {  // whole and broken register tiles
      const auto x = normal_floats(x_rows * cols, 5);
      const auto expected = multiply_in_double(x, x_rows, cols, {&weight});
      std::vector<float> y(x_rows * weight.rows(), -1e30F);
      linear.multiply_stored({x.data(), x_rows, cols}, {y.data(), x_rows, weight.rows()},
                             StoredProduct::kUnpacked);
      for (size_t i = 0; i < y.size(); ++i) {
        ASSERT_NEAR(y[i], expected.sums[i], 1e-6 * expected.magnitudes[i])
            << x_rows << " rows, " << i;
      }
    }
  }
}

TEST_P(LinearTest, ColumnsAreAMatrixOfTheirOwn) {
  const auto block = std::max<size_t>(32, static_cast<size_t>(ggml_blck_size(GetParam())));
  const StoredWeight all(GetParam(), 37, 4 * block);
  Weight columns = all.view();
  columns.stride = columns.row_stride();
  columns.data = static_cast<const char*>(columns.data) + columns.row_bytes() / 4;
  columns.cols = 2 * block;
  std::vector<char> bytes;
  for (size_t r = 0; r < columns.rows; ++r) {
    const auto* row = static_cast<const char*>(columns.row(r));
    bytes.insert(bytes.end(), row, row + columns.row_bytes());
  }
  const Linear view({columns});
  const Linear copy({Weight{bytes.data(), columns.type, columns.rows, columns.cols}});
  for (const size_t x_rows : {1, 9}) {
    const auto x = normal_floats(x_rows * columns.cols, 7);
    const Matrix<const float> input(x.data(), x_rows, columns.cols);
    std::vector<float> of_view(x_rows * columns.rows);
    std::vector<float> of_copy(of_view.size());
    const Matrix<float> y(of_view.data(), x_rows, columns.rows);
    const Matrix<float> expected(of_copy.data(), x_rows, columns.rows);
    for (const auto how :
         {StoredProduct::kFastest, StoredProduct::kRounded, StoredProduct::kUnpacked}) {
      view.multiply_stored(input, y, how);
      copy.multiply_stored(input, expected, how);
      ASSERT_EQ(of_view, of_copy) << static_cast<int>(how);
    }
    AlignedVector<float> storage;
    multiply_dense(input, view.dequantize(storage), y);
    multiply_dense(input, copy.dequantize(storage), expected);
    ASSERT_EQ(of_view, of_copy) << "dense";
  }
}

INSTANTIATE_TEST_SUITE_P(Types, LinearTest, ::testing::ValuesIn(supported_types()),
                         [](const auto& test) { return std::string(ggml_type_name(test.param)); });

class LinearPartsTest : public ::testing::Test {
 protected:
  static constexpr size_t kCols = 256;
  static void SetUpTestSuite() { ggml_cpu_init(); }
  LinearPartsTest() {
    size_t rows = 50;
    for (const ggml_type type : {GGML_TYPE_Q4_K, GGML_TYPE_F32, GGML_TYPE_Q8_0, GGML_TYPE_F16,
                                 GGML_TYPE_Q6_K, GGML_TYPE_Q4_1, GGML_TYPE_Q4_0}) {
      parts_.push_back(std::make_unique<StoredWeight>(type, rows, kCols));
      rows = rows * 7 % 61;
    }
  }
  [[nodiscard]] Linear stacked() const {
    std::vector<Weight> views;
    for (const auto& part : parts_) views.push_back(part->view());
    return Linear(views);
  }
  std::vector<std::unique_ptr<StoredWeight>> parts_;
};

TEST_F(LinearPartsTest, StackedPartsOfDifferentTypes) {
  constexpr size_t kRows = 5;
  const Linear linear = stacked();
  std::vector<const StoredWeight*> pointers;
  for (const auto& part : parts_) pointers.push_back(part.get());
  const auto x = normal_floats(kRows * (kCols + 2), 1);
  std::vector<float> packed;
  for (size_t i = 0; i < kRows; ++i) {
    packed.insert(packed.end(), &x[i * (kCols + 2)], &x[i * (kCols + 2)] + kCols);
  }
  const auto expected = multiply_in_double(packed, kRows, kCols, pointers);
  ASSERT_EQ(expected.sums.size(), kRows * linear.rows());

  const size_t stride = linear.rows() + 3;
  AlignedVector<float> storage;
  for (const bool stored : {false, true}) {
    std::vector<float> y(kRows * stride, -77.0F);
    const Matrix<const float> input(x.data(), kRows, kCols, kCols + 2);
    const Matrix<float> output(y.data(), kRows, linear.rows(), stride);
    if (stored) {
      linear.multiply_stored(input, output);
    } else {
      multiply_dense(input, linear.dequantize(storage), output);
    }
    for (size_t i = 0; i < kRows; ++i) {
      for (size_t r = 0; r < stride; ++r) {
        if (r >= linear.rows()) {
          ASSERT_EQ(output.row(i)[r], -77.0F) << "written beyond the row";
          continue;
        }
        const size_t at = i * linear.rows() + r;
        ASSERT_NEAR(output.row(i)[r], expected.sums[at],
                    1e-6 * expected.magnitudes[at] + (stored ? expected.input_errors[at] : 0))
            << (stored ? "stored" : "dense") << ", row " << i << ", output " << r;
      }
    }
  }
}

TEST_F(LinearPartsTest, ThreadsDoNotChangeABit) {
  const int before = num_threads();
  const Linear linear = stacked();
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    for (const size_t rows : {1, 40}) {
      const auto x = normal_floats(rows * kCols, 2);
      std::vector<float> stored(rows * linear.rows());
      std::vector<float> dense(stored.size());
      linear.multiply_stored({x.data(), rows, kCols}, {stored.data(), rows, linear.rows()});
      AlignedVector<float> storage;
      multiply_dense({x.data(), rows, kCols}, linear.dequantize(storage),
                     {dense.data(), rows, linear.rows()});
      results.push_back(stored);
      results.push_back(dense);
    }
  }
  set_num_threads(before);
  const size_t kinds = results.size() / 3;
  for (size_t i = kinds; i < results.size(); ++i) EXPECT_EQ(results[i], results[i % kinds]) << i;
}

/// What is decoded together must not change what is said.
TEST_F(LinearPartsTest, RowsDoNotDependOnEachOther) {
  const Linear linear = stacked();
  constexpr size_t kRows = 13;
  const auto x = normal_floats(kRows * kCols, 3);
  for (const auto how : {StoredProduct::kRounded, StoredProduct::kUnpacked}) {
    std::vector<float> together(kRows * linear.rows());
    linear.multiply_stored({x.data(), kRows, kCols}, {together.data(), kRows, linear.rows()}, how);
    for (size_t rows = 1; rows < kRows; ++rows) {
      std::vector<float> y(rows * linear.rows());
      linear.multiply_stored({&x[(kRows - rows) * kCols], rows, kCols},
                             {y.data(), rows, linear.rows()}, how);
      EXPECT_TRUE(std::equal(y.begin(), y.end(), together.end() - std::ptrdiff_t(y.size())))
          << rows << " rows";
    }
  }
}

/// One loop over many weights does what a call for each does, bit by bit.
TEST_F(LinearPartsTest, SeveralWeightsAtOnce) {
  constexpr size_t kMatrices = 5;
  std::vector<StoredWeight> halves;
  for (const ggml_type type : {GGML_TYPE_Q4_K, GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_F32,
                               GGML_TYPE_Q6_K, GGML_TYPE_Q4_1, GGML_TYPE_IQ4_NL}) {
    halves.emplace_back(type, 45, kCols);
  }
  std::vector<Linear> matrices;
  for (size_t i = 0; i < kMatrices; ++i) {
    matrices.emplace_back(std::vector{halves[i].view(), halves[i + 2].view()});
  }
  const std::vector<size_t> counts{1, 0, 9, 3, 20};
  std::vector<RowsOfLinear> products;
  size_t rows = 1;  // the first row of x belongs to nobody
  for (size_t i = 0; i < kMatrices; ++i) {
    if (counts[i] > 0) products.push_back({&matrices[i], rows, counts[i]});
    rows += counts[i];
  }
  const auto x = normal_floats(rows * kCols, 8);
  const size_t outputs = matrices[0].rows();
  const Matrix<const float> input(x.data(), rows, kCols);
  for (const auto how : {StoredProduct::kFastest, StoredProduct::kFastestRounded,
                         StoredProduct::kRounded, StoredProduct::kUnpacked}) {
    std::vector<float> y(rows * outputs, -77.0F);
    Linear::multiply_each_stored(products, input, {y.data(), rows, outputs}, how);
    EXPECT_TRUE(std::all_of(y.begin(), y.begin() + std::ptrdiff_t(outputs),
                            [](float v) { return v == -77.0F; }));
    for (const auto& [linear, first, count] : products) {
      std::vector<float> alone(count * outputs);
      linear->multiply_stored(input.slice(first, count), {alone.data(), count, outputs}, how);
      EXPECT_TRUE(
          std::equal(alone.begin(), alone.end(), y.begin() + std::ptrdiff_t(first * outputs)))
          << first;
    }
  }
}

TEST_F(LinearPartsTest, FloatWeightsAreUsedWhereTheyLie) {
  const StoredWeight weight(GGML_TYPE_F32, 3, kCols);
  AlignedVector<float> storage;
  EXPECT_EQ(Linear({weight.view()}).dequantize(storage).data, weight.view().data);
  EXPECT_TRUE(storage.empty());
}

/// Packing gives the file's pages back; who needs the rows afterwards reads them again.
TEST(Linear, OfAFileIsTheSameBeforeAndAfterItIsPacked) {
  constexpr size_t kRows = 600;
  constexpr size_t kCols = 1024;
  const StoredWeight stored(GGML_TYPE_Q4_1, kRows, kCols);
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("restkv-weight-" + std::to_string(getpid()));
  const Weight view = stored.view();
  std::ofstream(path, std::ios::binary)
      .write(static_cast<const char*>(view.data), std::ptrdiff_t(kRows * view.row_bytes()));
  const MappedFile file(path.string(), "weight");
  std::filesystem::remove(path);
  const Linear in_file({{file.bytes().data(), view.type, kRows, kCols, true}});
  const Linear in_memory({view});
  const auto x = normal_floats(kCols, 3);
  for (int repeat = 0; repeat < 2; ++repeat) {
    std::vector<float> expected(kRows);
    std::vector<float> y(kRows);
    in_memory.multiply_stored({x.data(), 1, kCols}, {expected.data(), 1, kRows},
                              StoredProduct::kRounded);
    in_file.multiply_stored({x.data(), 1, kCols}, {y.data(), 1, kRows}, StoredProduct::kRounded);
    EXPECT_EQ(y, expected);
    AlignedVector<float> storage;
    const auto dense = in_file.dequantize(storage);
    EXPECT_TRUE(std::equal(storage.begin(), storage.end(), stored.floats().begin()));
    EXPECT_EQ(dense.rows, kRows);
    in_file.release_file();
  }
}

TEST_F(LinearPartsTest, SingleRows) {
  for (const auto& part : parts_) {
    const auto floats = part->floats();
    std::vector<float> row(kCols);
    for (const size_t r : {size_t{0}, part->rows() - 1}) {
      dequantize_row(part->view(), r, row.data());
      EXPECT_TRUE(std::equal(row.begin(), row.end(), &floats[r * kCols]));
    }
  }
}

// oneDNN's products must not be interrupted by a handler on their stack: see linear.cc.
TEST(MultiplyDense, SurvivesSignals) {
  static volatile std::sig_atomic_t signals = 0;
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) { signals = signals + 1; };
  sigaction(SIGALRM, &action, &before);
  const itimerval often{.it_interval = {.tv_sec = 0, .tv_usec = 200},
                        .it_value = {.tv_sec = 0, .tv_usec = 200}};
  setitimer(ITIMER_REAL, &often, nullptr);

  constexpr size_t kRows = 512;
  constexpr size_t kWidth = 576;
  const std::vector<float> x(kRows * kWidth, 0.5F);
  const std::vector<float> w(kWidth * kWidth, 0.25F);
  std::vector<float> y(kRows * kWidth);
  for (int run = 0; run < 300; ++run) {
    multiply_dense({x.data(), kRows, kWidth}, {w.data(), kWidth, kWidth},
                   {y.data(), kRows, kWidth});
    ASSERT_EQ(std::count(y.begin(), y.end(), 0.125F * kWidth), std::ptrdiff_t{kRows * kWidth});
  }
  setitimer(ITIMER_REAL, nullptr, nullptr);
  sigaction(SIGALRM, &before, nullptr);
  EXPECT_GT(signals, 20);
}

TEST(IsSupported, KnowsWhatModelsUse) {
  for (const ggml_type type : weight_types()) {
    EXPECT_TRUE(is_supported(type)) << ggml_type_name(type);
  }
  EXPECT_GE(weight_types().size(), 26U);
  for (const ggml_type type : {GGML_TYPE_I32, GGML_TYPE_F64, GGML_TYPE_COUNT}) {
    EXPECT_FALSE(is_supported(type)) << type;
  }
  EXPECT_FALSE(is_supported(static_cast<ggml_type>(-1)));
}

}  // namespace
}  // namespace restkv
