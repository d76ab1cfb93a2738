#include "model/ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <random>
#include <vector>

#include "restkv/error.h"
#include "support/simd.h"

namespace restkv {
namespace {

constexpr size_t kWidths[] = {1, 2, 3, 15, 16, 17, 31, 64, 575, 576};

/// Rows with room between them, which an operation must leave alone.
class Rows {
 public:
  Rows(size_t rows, size_t cols, float factor = 1)
      : storage_(rows * (cols + 3)), view_(storage_.data(), rows, cols, cols + 3) {
    static std::mt19937 rng(1);
    std::normal_distribution<float> normal;
    std::generate(storage_.begin(), storage_.end(), [&] { return factor * normal(rng); });
    before_ = storage_;
  }
  Rows(const Rows&) = delete;
  Rows& operator=(const Rows&) = delete;
  ~Rows() {
    for (size_t r = 0; r < view_.rows; ++r) {
      for (size_t c = view_.cols; c < view_.stride; ++c) {
        EXPECT_EQ(storage_[r * view_.stride + c], before_[r * view_.stride + c])
            << "written beyond row " << r;
      }
    }
  }
  [[nodiscard]] Matrix<float> view() { return view_; }
  [[nodiscard]] double before(size_t r, size_t c) const { return before_[r * view_.stride + c]; }
  [[nodiscard]] double now(size_t r, size_t c) const { return storage_[r * view_.stride + c]; }
  void set(size_t r, size_t c, float x) {
    storage_[r * view_.stride + c] = before_[r * view_.stride + c] = x;
  }

 private:
  std::vector<float> storage_, before_;
  Matrix<float> view_;
};

class OpsTest : public ::testing::TestWithParam<int64_t> {
 protected:
  testing::ForcedSimdTarget forced_{GetParam()};
};

TEST_P(OpsTest, RmsNorm) {
  for (const size_t width : kWidths) {
    for (const float factor : {1.0F, 1e-4F, 1e4F}) {
      Rows x(35, width, factor);
      Rows y(35, width);
      std::vector<float> weight(width);
      for (size_t c = 0; c < width; ++c) weight[c] = 1 + 0.01F * static_cast<float>(c % 100);
      const float epsilon = 1e-5F;
      rms_norm(x.view(), weight, epsilon, y.view());
      for (size_t r = 0; r < 35; ++r) {
        double squares = 0;
        for (size_t c = 0; c < width; ++c) squares += x.before(r, c) * x.before(r, c);
        const double rms = std::sqrt(squares / static_cast<double>(width) + double{epsilon});
        for (size_t c = 0; c < width; ++c) {
          const double expected = x.before(r, c) / rms * weight[c];
          ASSERT_NEAR(y.now(r, c), expected, 2e-6 * std::abs(expected)) << width;
          ASSERT_EQ(x.now(r, c), x.before(r, c));
        }
      }
    }
  }
}

TEST_P(OpsTest, RmsNormInPlaceAndOfZeros) {
  Rows x(2, 17, 0);
  const std::vector<float> weight(17, 2.0F);
  x.set(1, 3, 4.0F);
  rms_norm(x.view(), weight, 0.25F, x.view());
  const double rms = std::sqrt(16.0 / 17 + 0.25);
  for (size_t c = 0; c < 17; ++c) {
    EXPECT_EQ(x.now(0, c), 0);
    EXPECT_NEAR(x.now(1, c), c == 3 ? 8 / rms : 0, 1e-5);
  }
}

TEST_P(OpsTest, Add) {
  for (const size_t width : kWidths) {
    Rows x(35, width);
    Rows y(35, width);
    add(x.view(), y.view());
    for (size_t r = 0; r < 35; ++r) {
      for (size_t c = 0; c < width; ++c) {
        ASSERT_EQ(x.now(r, c), static_cast<float>(x.before(r, c) + y.before(r, c)));
      }
    }
  }
}

double silu(double x) { return x / (1 + std::exp(-x)); }

TEST_P(OpsTest, SiluMultiply) {
  for (const size_t width : kWidths) {
    Rows x(35, 2 * width, 5);
    gate_multiply(x.view(), Activation::kSilu);
    for (size_t r = 0; r < 35; ++r) {
      for (size_t c = 0; c < width; ++c) {
        const double expected = silu(x.before(r, c)) * x.before(r, width + c);
        // The exponent's rounding grows with |x|: see Exp.
        ASSERT_NEAR(x.now(r, c), expected,
                    std::abs(expected) * (1e-6 + 2e-7 * std::abs(x.before(r, c))));
        ASSERT_EQ(x.now(r, width + c), x.before(r, width + c)) << "the second half is input";
      }
    }
  }
}

TEST_P(OpsTest, SiluMultiplyOfExtremeNumbers) {
  const std::vector<float> gates = {0.0F,  -0.0F,  1e-30F, -1e-30F, 20.0F,  -20.0F,
                                    79.0F, -79.0F, 81.0F,  -81.0F,  100.0F, -100.0F,
                                    1e4F,  -1e4F,  1e30F,  -1e30F,  3e38F,  -3e38F};
  Rows x(1, 2 * gates.size());
  for (size_t i = 0; i < gates.size(); ++i) {
    x.set(0, i, gates[i]);
    x.set(0, gates.size() + i, 1.0F);
  }
  gate_multiply(x.view(), Activation::kSilu);
  for (size_t i = 0; i < gates.size(); ++i) {
    const double expected = silu(gates[i]);
    EXPECT_NEAR(x.now(0, i), expected, 1e-30 + 2e-5 * std::abs(expected)) << gates[i];
  }
  const float infinity = std::numeric_limits<float>::infinity();
  Rows y(1, 4);
  y.set(0, 0, infinity);
  y.set(0, 1, -infinity);
  y.set(0, 2, 1.0F);
  y.set(0, 3, 1.0F);
  gate_multiply(y.view(), Activation::kSilu);
  EXPECT_EQ(y.now(0, 0), infinity);
  EXPECT_NEAR(y.now(0, 1), 0, 1e-30);
}

TEST_P(OpsTest, GeluMultiply) {
  for (const size_t width : kWidths) {
    Rows x(35, 2 * width, 5);
    gate_multiply(x.view(), Activation::kGelu);
    for (size_t r = 0; r < 35; ++r) {
      for (size_t c = 0; c < width; ++c) {
        const double g = x.before(r, c);
        const double gelu =
            g / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (g + 0.044715 * g * g * g)));
        const double up = x.before(r, width + c);
        ASSERT_NEAR(x.now(r, c), gelu * up, 1e-6 * std::abs(g * up) + 1e-30) << g;
        ASSERT_EQ(x.now(r, width + c), up) << "the second half is input";
      }
    }
  }
  const std::vector<float> gates = {0.0F, 1e4F, -1e4F, 1e30F, -1e30F};
  Rows x(1, 2 * gates.size());
  for (size_t i = 0; i < gates.size(); ++i) {
    x.set(0, i, gates[i]);
    x.set(0, gates.size() + i, 1.0F);
  }
  gate_multiply(x.view(), Activation::kGelu);
  for (size_t i = 0; i < gates.size(); ++i) EXPECT_EQ(x.now(0, i), std::max(gates[i], 0.0F));
}

TEST_P(OpsTest, ClampedSiluMultiply) {
  const auto expected = [](double g, double u) {
    const double gate = std::min(g, 7.0);
    return gate / (1 + std::exp(-1.702 * gate)) * (std::clamp(u, -7.0, 7.0) + 1);
  };
  for (const size_t width : kWidths) {
    Rows x(35, 2 * width, 5);
    gate_multiply(x.view(), Activation::kClampedSilu);
    for (size_t r = 0; r < 35; ++r) {
      for (size_t c = 0; c < width; ++c) {
        const double g = x.before(r, c);
        const double y = expected(g, x.before(r, width + c));
        ASSERT_NEAR(x.now(r, c), y, std::abs(y) * (2e-6 + 4e-7 * std::abs(g)) + 1e-6) << g;
      }
    }
  }
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> gates = {0.0F, 7.0F, 1e30F, infinity, -60.0F, -1e30F, -infinity, nan};
  Rows x(1, 2 * gates.size());
  for (size_t i = 0; i < gates.size(); ++i) {
    x.set(0, i, gates[i]);
    x.set(0, gates.size() + i, 100.0F);
  }
  gate_multiply(x.view(), Activation::kClampedSilu);
  for (size_t i = 0; i + 1 < gates.size(); ++i) {
    EXPECT_NEAR(x.now(0, i), gates[i] > 0 ? expected(7, 100) : 0, 1e-4) << gates[i];
  }
  EXPECT_TRUE(std::isnan(x.now(0, gates.size() - 1)));
}

/// Rows are weighed and added where they belong, also several to one.
TEST_P(OpsTest, GatherAndAddWeighedRows) {
  for (const size_t width : kWidths) {
    Rows x(9, width);
    Rows gathered(5, width);
    Rows sums(9, width);
    const std::vector<Routing::Row> rows{{3, 0.5F}, {3, -2.0F}, {0, 1.0F}, {8, 0.25F}, {3, 3.0F}};
    gather_rows(x.view(), rows, gathered.view());
    add_weighed_rows(gathered.view(), rows, sums.view());
    for (size_t c = 0; c < width; ++c) {
      for (size_t i = 0; i < rows.size(); ++i) {
        ASSERT_EQ(gathered.now(i, c), x.before(rows[i].row, c));
      }
      for (size_t r = 0; r < 9; ++r) {
        double expected = sums.before(r, c);
        for (const Routing::Row& row : rows) {
          if (row.row == r) expected += double{row.weight} * x.before(r, c);
        }
        ASSERT_NEAR(sums.now(r, c), expected, 1e-5) << r;
      }
    }
  }
}

TEST_P(OpsTest, GateRows) {
  for (const size_t width : kWidths) {
    Rows x(35, width);
    Rows y(35, width);
    std::vector<float> weight(width);
    for (size_t c = 0; c < width; ++c) weight[c] = static_cast<float>(c % 5) / 8 - 0.2F;
    gate_rows(x.view(), weight, y.view());
    for (size_t r = 0; r < 35; ++r) {
      double dot = 0;
      for (size_t c = 0; c < width; ++c) dot += double{weight[c]} * x.before(r, c);
      for (size_t c = 0; c < width; ++c) {
        ASSERT_NEAR(y.now(r, c), y.before(r, c) / (1 + std::exp(-dot)), 1e-5);
      }
    }
  }
}

TEST_P(OpsTest, ScaleSoftcapAndBias) {
  for (const size_t width : kWidths) {
    Rows scaled(35, width, 3);
    scale(scaled.view(), 2.5F);
    Rows capped(35, width, 30);
    softcap(capped.view(), 20.0F);
    Rows shifted(35, width);
    std::vector<float> bias(width);
    for (size_t c = 0; c < width; ++c) bias[c] = static_cast<float>(c) - 3.5F;
    add_bias(shifted.view(), bias);
    for (size_t r = 0; r < 35; ++r) {
      for (size_t c = 0; c < width; ++c) {
        ASSERT_EQ(scaled.now(r, c), static_cast<float>(2.5 * scaled.before(r, c)));
        ASSERT_NEAR(capped.now(r, c), 20 * std::tanh(capped.before(r, c) / 20), 2e-5);
        ASSERT_EQ(shifted.now(r, c), static_cast<float>(shifted.before(r, c)) + bias[c]);
      }
    }
  }
}

TEST_P(OpsTest, RmsNormOfHeads) {
  constexpr size_t kDim = 20;
  Rows x(17, 3 * kDim);
  std::vector<float> weight(kDim);
  for (size_t c = 0; c < kDim; ++c) weight[c] = 0.5F + static_cast<float>(c) / 8;
  // The middle one of three heads is left alone.
  rms_norm_heads({x.view().data, 2, 17, kDim, 2 * kDim, x.view().stride}, weight, 1e-5F);
  for (size_t r = 0; r < 17; ++r) {
    for (size_t h = 0; h < 3; ++h) {
      double square = 0;
      for (size_t c = 0; c < kDim; ++c) square += std::pow(x.before(r, h * kDim + c), 2);
      const double rms = std::sqrt(square / kDim + 1e-5);
      for (size_t c = 0; c < kDim; ++c) {
        const double before = x.before(r, h * kDim + c);
        ASSERT_NEAR(x.now(r, h * kDim + c), h == 1 ? before : before / rms * double{weight[c]},
                    1e-5);
      }
    }
  }
}

/// What the paper's rotation makes of row `position`, in float64.
std::vector<double> rotated(const std::vector<float>& x, const RopeConfig& config,
                            const std::vector<float>& factors, RopeStyle style, size_t position) {
  std::vector<double> y(x.begin(), x.end());
  const size_t pairs = config.dim / 2;
  for (size_t i = 0; i < pairs; ++i) {
    const double angle =
        static_cast<double>(position) / config.factor *
        std::pow(config.base, -2.0 * static_cast<double>(i) / static_cast<double>(config.dim)) /
        (factors.empty() ? 1.0 : double{factors[i]});
    const size_t a = style == RopeStyle::kHalves ? i : 2 * i;
    const size_t b = style == RopeStyle::kHalves ? i + pairs : 2 * i + 1;
    y[a] = x[a] * std::cos(angle) - x[b] * std::sin(angle);
    y[b] = x[a] * std::sin(angle) + x[b] * std::cos(angle);
  }
  return y;
}

/// Rotates token-major rows of two heads with room between them and compares with float64.
void check_rotation(RopeTable& table, const RopeConfig& config, const std::vector<float>& factors,
                    RopeStyle style, size_t dim, size_t rows, size_t first) {
  Rows x(rows, 2 * dim);
  table.rotate({x.view().data, 2, rows, dim, dim, x.view().stride}, consecutive(first, rows));
  for (size_t r = 0; r < rows; ++r) {
    for (size_t h = 0; h < 2; ++h) {
      std::vector<float> before(dim);
      for (size_t c = 0; c < dim; ++c) before[c] = static_cast<float>(x.before(r, h * dim + c));
      const auto expected = rotated(before, config, factors, style, first + r);
      for (size_t c = 0; c < dim; ++c) {
        ASSERT_NEAR(x.now(r, h * dim + c), expected[c], 2e-6)
            << "position " << first + r << ", channel " << c << " of " << dim;
      }
    }
  }
}

TEST_P(OpsTest, Rope) {
  for (const RopeStyle style : {RopeStyle::kNeighbours, RopeStyle::kHalves}) {
    for (const size_t dim : {2, 6, 34, 64, 80, 128}) {
      RopeConfig config;
      config.dim = dim;
      config.base = 10000;
      RopeTable table(config, {}, style);
      table.grow(37);
      check_rotation(table, config, {}, style, dim, 37, 0);
      // The rows that were there stay right, and the new ones continue them.
      table.grow(38);
      table.grow(20);
      table.grow(1000);
      check_rotation(table, config, {}, style, dim, 40, 0);
      check_rotation(table, config, {}, style, dim, 3, 997);
    }
  }
}

TEST_P(OpsTest, RopeOfPartOfTheChannelsWithFactorsAndScale) {
  for (const RopeStyle style : {RopeStyle::kNeighbours, RopeStyle::kHalves}) {
    RopeConfig config;
    config.dim = 22;
    config.base = 500000;
    config.factor = 4;
    std::vector<float> factors;
    for (int i = 0; i < 11; ++i) factors.push_back(1 + 0.7F * static_cast<float>(i));
    RopeTable table(config, factors, style);
    table.grow(131072);
    check_rotation(table, config, factors, style, 32, 5, 0);
    check_rotation(table, config, factors, style, 32, 5, 131067);
  }
}

// Peng et al. 2023, section 3.2, for one head of 64 channels and a context stretched eightfold.
TEST_P(OpsTest, YarnKeepsHighFrequenciesAndDividesLowOnes) {
  constexpr size_t kDim = 64;
  const RopeConfig config{.dim = kDim,
                          .base = 10000,
                          .scaling = RopeConfig::Scaling::kYarn,
                          .factor = 8,
                          .original_context = 2048,
                          .magnitude = 1 + 0.1 * std::log(8.0)};
  RopeTable table(config, {}, RopeStyle::kHalves);
  constexpr size_t kPosition = 777;
  table.grow(kPosition + 1);
  const double low =
      std::floor(64 * std::log(2048 / (32 * 2 * std::numbers::pi)) / 2 / std::log(1e4));
  const double high = std::ceil(64 * std::log(2048 / (2 * std::numbers::pi)) / 2 / std::log(1e4));
  size_t kept = 0;
  size_t divided = 0;
  for (size_t i = 0; i < kDim / 2; ++i) {
    const double plain = std::pow(10000.0, -static_cast<double>(i) / 32);
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    kept += ramp == 0 ? 1 : 0;
    divided += ramp == 1 ? 1 : 0;
    const double angle = kPosition * plain * ((1 - ramp) + ramp / 8);
    std::vector<float> x(kDim, 0.0F);
    x[i] = 1;
    table.rotate({x.data(), 1, 1, kDim}, consecutive(kPosition, 1));
    EXPECT_NEAR(x[i], config.magnitude * std::cos(angle), 1e-5) << i;
    EXPECT_NEAR(x[i + 32], config.magnitude * std::sin(angle), 1e-5) << i;
  }
  EXPECT_GT(kept, 4U);
  EXPECT_GT(divided, 4U);
}

TEST_P(OpsTest, RopeIsUndoneAndMoved) {
  for (const RopeStyle style : {RopeStyle::kNeighbours, RopeStyle::kHalves}) {
    constexpr size_t kDim = 34;
    RopeTable table({.dim = 32, .magnitude = 1.25}, {}, style);
    table.grow(600);
    Rows x(3, kDim);
    Rows plain(3, kDim);
    for (size_t r = 0; r < 3; ++r) {
      for (size_t c = 0; c < kDim; ++c) plain.set(r, c, static_cast<float>(x.before(r, c)));
    }
    const Heads<float> heads(x.view().data, 1, 3, kDim, kDim, x.view().stride);
    table.rotate(heads, consecutive(400, heads.rows));
    table.rotate_back(heads, 400);
    for (size_t r = 0; r < 3; ++r) {
      for (size_t c = 0; c < kDim; ++c) ASSERT_NEAR(x.now(r, c), plain.now(r, c), 2e-6);
    }
    // Moved from 400 to 20 and on to 590, a key is what it would have been there.
    table.rotate(heads, consecutive(400, heads.rows));
    const auto row = heads.slice_rows(1, 1);
    table.move(row, 401, 20);
    table.move(row, 20, 590);
    const Heads<float> there(plain.view().data, 1, 3, kDim, kDim, plain.view().stride);
    table.rotate(there.slice_rows(1, 1), consecutive(590, 1));
    for (size_t c = 0; c < kDim; ++c) ASSERT_NEAR(x.now(1, c), plain.now(1, c), 4e-6);
  }
}

TEST_P(OpsTest, RopeOfOnePositionNeedsNoTable) {
  for (const RopeStyle style : {RopeStyle::kNeighbours, RopeStyle::kHalves}) {
    constexpr size_t kDim = 34;
    RopeTable table({.dim = 32, .factor = 2, .magnitude = 1.25}, {}, style);
    for (const size_t position : {size_t{0}, size_t{333}, size_t{90000}}) {
      std::vector<float> expected(kDim);
      for (size_t c = 0; c < kDim; ++c) expected[c] = static_cast<float>(c * 7 % 5) - 1.7F;
      std::vector<float> actual = expected;
      table.at(position).rotate(actual.data());
      table.rotate({expected.data(), 1, 1, kDim}, consecutive(position, 1));
      for (size_t c = 0; c < kDim; ++c) ASSERT_NEAR(actual[c], expected[c], 1e-5) << position;
    }
  }
}

// A table that nobody has grown gives what a grown one gives, and never reads before or behind it.
TEST_P(OpsTest, RopeReachesThePositionsItIsAskedFor) {
  const RopeConfig config{.dim = 32};
  RopeTable grown(config, {}, RopeStyle::kHalves);
  grown.grow(3000);
  const auto both = [&](auto turn) {
    Rows here(3, 32);
    Rows there(3, 32);
    RopeTable fresh(config, {}, RopeStyle::kHalves);
    for (size_t r = 0; r < 3; ++r) {
      for (size_t c = 0; c < 32; ++c) there.set(r, c, static_cast<float>(here.before(r, c)));
    }
    turn(grown, Heads<float>(here.view().data, 1, 3, 32, 32, here.view().stride));
    turn(fresh, Heads<float>(there.view().data, 1, 3, 32, 32, there.view().stride));
    for (size_t r = 0; r < 3; ++r) {
      for (size_t c = 0; c < 32; ++c) ASSERT_EQ(here.now(r, c), there.now(r, c));
    }
  };
  both([](RopeTable& t, Heads<float> x) { t.rotate(x, std::vector<size_t>{700, 2900, 5}); });
  both([](RopeTable& t, Heads<float> x) { t.rotate_back(x, 1200); });
  both([](RopeTable& t, Heads<float> x) { t.move(x.slice_rows(0, 1), 2100, 40); });
  both([](RopeTable& t, Heads<float> x) { t.move(x.slice_rows(0, 1), 40, 2100); });
  both([](RopeTable& t, Heads<float> x) { x.row(0, 0)[0] = t.mean(1400, 300).cosine[3]; });

  Rows x(3, 32);
  const Heads<float> heads(x.view().data, 1, 3, 32, 32, x.view().stride);
  RopeTable table(config, {}, RopeStyle::kHalves);
  for (const int64_t position : {int64_t{-1}, int64_t{-24}, int64_t{1} << 40}) {
    const auto bad = static_cast<size_t>(position);
    EXPECT_THROW(table.rotate(heads, std::vector<size_t>{1, bad, 2}), Error) << position;
    EXPECT_THROW(table.rotate_back(heads, bad), Error) << position;
    EXPECT_THROW(table.move(heads.slice_rows(0, 1), 5, bad), Error) << position;
    EXPECT_THROW(table.move(heads.slice_rows(0, 1), bad, 5), Error) << position;
    EXPECT_THROW((void)table.mean(bad, 4), Error) << position;
  }
  for (size_t r = 0; r < 3; ++r) {
    for (size_t c = 0; c < 32; ++c) EXPECT_EQ(x.now(r, c), x.before(r, c));
  }
}

TEST_P(OpsTest, RopeOfNoChannels) {
  const RopeConfig config;
  RopeTable table(config, {}, RopeStyle::kHalves);
  table.grow(10);
  Rows x(3, 8);
  table.rotate({x.view().data, 2, 3, 4, 4, x.view().stride}, consecutive(5, 3));
  for (size_t c = 0; c < 8; ++c) EXPECT_EQ(x.now(1, c), x.before(1, c));
}

INSTANTIATE_TEST_SUITE_P(Simd, OpsTest, ::testing::ValuesIn(testing::simd_targets()),
                         [](const auto& test) { return testing::simd_target_name(test.param); });

}  // namespace
}  // namespace restkv
