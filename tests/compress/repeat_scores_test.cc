// What methods with a repeat pass accumulate, against float64 loops.

#include "compress/repeat_scores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "attention/attention_precision.h"
#include "compress/peak_attention.h"
#include "compress/peak_errors.h"
#include "compress/reference.h"
#include "restkv/attention.h"
#include "restkv/stages.h"
#include "support/refusal.h"
#include "support/simd.h"

namespace restkv {
namespace {

using ::testing::HasSubstr;
using testing::RandomLayer;
using testing::refusal_if_any;

constexpr size_t kContext = 230;
constexpr size_t kFed = 90;   // 20 of them before the block
constexpr size_t kRows = 70;  // of the block
constexpr float kNothing = std::numeric_limits<float>::quiet_NaN();

constexpr float kSinks[6] = {1, -4, 3, 0, 2, -1};

/// A block of a feed behind a context, and its attention. With a soft cap, rows of the context have
/// biases, and query heads have sinks.
struct Block {
  explicit Block(float softcap)
      : layer(6, 2, kContext + kFed, 24, kRows, 40, 3),
        lse(6 * kRows),
        outputs(6 * kRows * 24),
        biases(2 * (kContext + kFed), 0.0F) {
    const Matrix<float> bias(biases.data(), 2, kContext + kFed);
    for (size_t j = 0; j < kContext; ++j) {
      bias.row(0)[j] = 0.2F * static_cast<float>(j % 11) - 1.0F;
      bias.row(1)[j] = 1.0F - 0.3F * static_cast<float>(j % 7);
    }
    view = {.queries = layer.view.queries,
            .own_keys = layer.view.keys.slice_rows(kContext, kFed),
            .own_values = layer.view.values.slice_rows(kContext, kFed),
            .keys = layer.view.keys.slice_rows(0, kContext),
            .values = layer.view.values.slice_rows(0, kContext),
            .lse = {lse.data(), 6, kRows},
            .outputs = {outputs.data(), 6, kRows, 24},
            .begin = 60,
            .end = 191,
            .softcap = softcap,
            .output = &layer.factor};
    if (softcap > 0) {
      view.bias = bias;
      view.sink_logits = kSinks;
    }
    const Heads<float> out(outputs.data(), 6, kRows, 24);
    prefill_attention(view.queries, layer.view.keys, layer.view.values, kContext + kFed - kRows,
                      {.softcap = softcap, .bias = view.bias, .sink_logits = view.sink_logits}, out,
                      {lse.data(), 6, kRows});
  }

  /// Logit of a query and a row of the context or, behind it, of the fed tokens.
  [[nodiscard]] double logit(size_t h, size_t t, size_t row) const {
    double z = 0;
    for (size_t c = 0; c < 24; ++c) {
      z += double{view.queries.row(h, t)[c]} * double{layer.view.keys.row(h / 3, row)[c]};
    }
    z /= std::sqrt(24.0);
    if (view.softcap == 0) return z;
    return view.softcap * std::tanh(z / view.softcap) +
           double{biases[h / 3 * (kContext + kFed) + row]};
  }
  /// What the sink of a query head adds to denominators.
  [[nodiscard]] double sink(size_t h) const {
    return view.sink_logits.empty() ? 0 : std::exp(double{view.sink_logits[h]});
  }
  /// Rows that query t sees.
  [[nodiscard]] size_t seen(size_t t) const { return kContext + kFed - kRows + t + 1; }

  RandomLayer layer;
  std::vector<float> lse, outputs, biases;
  BlockObservation view;
};

/// Of each query head and position, before anything is accumulated.
std::vector<float> nothing() { return std::vector<float>(6 * kContext, kNothing); }

void expect_peaks(const std::vector<float>& peaks, const Block& block,
                  const std::vector<std::vector<double>>& expected, double relative,
                  double absolute) {
  for (size_t h = 0; h < 6; ++h) {
    const double largest = *std::ranges::max_element(expected[h]);
    for (size_t j = 0; j < kContext; ++j) {
      const float peak = peaks[h * kContext + j];
      if (j < block.view.begin || j >= block.view.end) {
        ASSERT_TRUE(std::isnan(peak)) << "position " << j;
        continue;
      }
      const double e = expected[h][j - block.view.begin];
      ASSERT_NEAR(peak, e, relative * e + absolute * largest) << "head " << h << ", position " << j;
    }
  }
}

class RepeatScoresTest : public ::testing::TestWithParam<int64_t> {
 protected:
  testing::ForcedSimdTarget forced_{GetParam()};

  static std::vector<AttentionPrecision> precisions() {
    std::vector<AttentionPrecision> all{AttentionPrecision::kF32};
    for (const auto precision : {AttentionPrecision::kBf16, AttentionPrecision::kInt8}) {
      if (refusal_if_any([&] { require_support(precision); }).empty()) all.push_back(precision);
    }
    return all;
  }
};

TEST_P(RepeatScoresTest, PeaksOfAttentionOverSinksChunkAndFedTokens) {
  // The last two: all that the feed has seen takes part, as its attention knows.
  for (const auto& [softcap, narrow] :
       {std::pair(0.0F, false), {3.0F, false}, {0.0F, true}, {3.0F, true}}) {
    Block block(softcap);
    if (!narrow) block.view.lse = {};
    std::vector<float> factors(kRows);
    for (size_t t = 0; t < kRows; ++t) factors[t] = 0.3F + static_cast<float>(t % 7);
    std::vector<std::vector<double>> expected(6, std::vector<double>(131, 0.0));
    for (size_t h = 0; h < 6; ++h) {
      for (size_t t = 0; t < kRows; ++t) {
        double sum = block.sink(h);
        for (size_t row = 0; row < block.seen(t); ++row) {
          const bool takes_part = narrow || row < 4 || (row >= 60 && row < 191) || row >= kContext;
          if (takes_part) sum += std::exp(block.logit(h, t, row));
        }
        for (size_t j = 0; j < 131; ++j) {
          const double a = std::exp(block.logit(h, t, 60 + j)) / sum;
          expected[h][j] = std::max(expected[h][j], a * double{factors[t]});
        }
      }
    }
    for (const AttentionPrecision precision : precisions()) {
      block.view.precision = precision;
      std::vector<float> peaks = nothing();
      add_peak_attention(block.view, 4, factors, {peaks.data(), 6, kContext});
      const bool exact = precision == AttentionPrecision::kF32;
      expect_peaks(peaks, block, expected, exact ? 1e-5 : 0.1, exact ? 1e-6 : 0.01);
      // Larger ones stay.
      peaks[60] = 100.0F;
      add_peak_attention(block.view, 4, factors, {peaks.data(), 6, kContext});
      EXPECT_EQ(peaks[60], 100.0F);
    }
  }
}

TEST_P(RepeatScoresTest, PeaksOfReconstructionErrors) {
  for (const float softcap : {0.0F, 3.0F}) {
    Block block(softcap);
    std::vector<std::vector<double>> expected(6, std::vector<double>(131, 0.0));
    for (size_t h = 0; h < 6; ++h) {
      for (size_t t = 0; t < kRows; ++t) {
        double sum = block.sink(h);
        std::vector<double> o(24, 0.0);
        for (size_t row = 0; row < block.seen(t); ++row) {
          const double weight = std::exp(block.logit(h, t, row));
          sum += weight;
          for (size_t c = 0; c < 24; ++c) {
            o[c] += weight * double{block.layer.view.values.row(h / 3, row)[c]};
          }
        }
        for (size_t j = 0; j < 131; ++j) {
          const double a = std::exp(block.logit(h, t, 60 + j)) / sum;
          double square = 0;
          for (size_t channel = 0; channel < 40; ++channel) {
            double x = 0;
            for (size_t c = 0; c < 24; ++c) {
              x += double{block.layer.output_projection.row(channel)[h * 24 + c]} *
                   (o[c] / sum - double{block.layer.view.values.row(h / 3, 60 + j)[c]});
            }
            square += x * x;
          }
          expected[h][j] = std::max(expected[h][j], a / (1 - a) * std::sqrt(square));
        }
      }
    }
    for (const AttentionPrecision precision : precisions()) {
      block.view.precision = precision;
      std::vector<float> peaks = nothing();
      add_peak_errors(block.view, {}, {peaks.data(), 6, kContext});
      const bool exact = precision == AttentionPrecision::kF32;
      // Rounding grows where o is close to v, as the squares of both are subtracted.
      const double relative = exact ? 2e-4 : precision == AttentionPrecision::kInt8 ? 0.3 : 0.15;
      expect_peaks(peaks, block, expected, relative, exact ? 1e-6 : 0.01);
    }
  }
}

TEST_P(RepeatScoresTest, RefuseWhatIsNotANumber) {
  for (const bool errors : {false, true}) {
    Block block(0);
    block.layer.k[(77 * 2 + 1) * 24 + 5] = kNothing;
    std::vector<float> peaks = nothing();
    const Matrix<float> to(peaks.data(), 6, kContext);
    EXPECT_THAT(refusal_if_any([&] {
                  if (errors) {
                    add_peak_errors(block.view, {}, to);
                  } else {
                    add_peak_attention(block.view, 4, {}, to);
                  }
                }),
                AllOf(HasSubstr("keys"), HasSubstr("head 1"), HasSubstr("position 77")));
  }
}

INSTANTIATE_TEST_SUITE_P(Simd, RepeatScoresTest, ::testing::ValuesIn(testing::simd_targets()),
                         [](const auto& test) { return testing::simd_target_name(test.param); });

TEST(RepeatScores, WithoutANumberSinksPrefixAndAnswersStay) {
  const RandomLayer random(4, 2, 12, 8, 1, 16, 1);
  LayerObservation layer = random.view;
  std::vector<float> numbers(4 * 12, kNothing);
  for (size_t h = 0; h < 4; ++h) {
    for (size_t n = 3; n < 9; ++n) {
      numbers[h * 12 + n] = static_cast<float>(n * 10 + h);  // repeated: 3 to 8
    }
  }
  layer.watched = {numbers.data(), 4, 12};
  CompressionOptions options = default_options("kvzip");
  options.sinks = 1;
  const auto scores = score_tokens(layer, options);
  for (size_t head = 0; head < 2; ++head) {
    const auto row = scores.rows().row_span(head);
    for (size_t n = 3; n < 9; ++n) EXPECT_EQ(row[n], static_cast<float>(n * 10 + head * 2 + 1));
    EXPECT_EQ(row[0], row[2]);    // the sink and the prefix
    EXPECT_GT(row[2], row[11]);   // are worth more than answers
    EXPECT_GT(row[11], row[10]);  // the newest of which come first
    EXPECT_GT(row[9], row[8]);
  }
  options.own["keep_prefix"] = false;
  EXPECT_EQ(score_tokens(layer, options).rows().row(1)[2], 0.0F);

  layer.watched = {};
  EXPECT_THAT(refusal_if_any([&] { score_tokens(layer, options); }),
              HasSubstr("watched as [4, 12]"));
}

TEST(RepeatScores, AreSmoothedAmongRepeatedTokens) {
  const RandomLayer random(4, 2, 60, 8, 1, 64, 1);
  LayerObservation layer = random.view;
  std::vector<float> numbers(4 * 60, kNothing);
  for (size_t h = 0; h < 4; ++h) {
    for (size_t n = 5; n < 50; ++n)
      numbers[h * 60 + n] = static_cast<float>((n * n * (h + 3)) % 41);
  }
  layer.watched = {numbers.data(), 4, 60};
  for (const char* method : {"kvzip", "restkv-repeat"}) {
    CompressionOptions options = default_options(method);
    options.pooling = Pooling::kAverage;
    for (const int kernel : {3, kAutoKernel}) {
      options.kernel = kernel;
      const auto scores = score_tokens(layer, options);
      for (size_t head = 0; head < 2; ++head) {
        std::vector<float> expected(45, 0.0F);
        for (size_t g = 0; g < 2; ++g) {
          std::vector<float> row(45);
          const std::span<const float> raw(&numbers[(head * 2 + g) * 60 + 5], 45);
          if (kernel == kAutoKernel) {
            smooth_two_scales(raw, options.pooling, {.kernel = kNeighbourhood}, 45, row);
          } else {
            smooth(raw, options.pooling, {.kernel = kernel}, row);
          }
          for (size_t n = 0; n < 45; ++n) expected[n] = std::max(expected[n], row[n]);
        }
        const auto ours = scores.rows().row_span(head);
        EXPECT_TRUE(std::ranges::equal(ours.subspan(5, 45), expected)) << method << kernel;
        EXPECT_GT(ours[4], 1e20F) << "the prefix stays";
        EXPECT_GT(ours[50], 1e20F) << "what was not repeated stays";
      }
    }
    options.pooling = Pooling::kAdaptive;
    EXPECT_THAT(refusal_if_any([&] { validate(options); }), HasSubstr("pooling is adaptive"));
    options.pooling = Pooling::kMax;
    options.kernel = 4;
    EXPECT_THAT(refusal_if_any([&] { validate(options); }), HasSubstr("kernel is 4"));
  }
}

}  // namespace
}  // namespace restkv
