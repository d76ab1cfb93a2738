// chunkkv, finch, dropkv, rkv and leverage against slow definitions, and what they owe their
// callers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "compress/cake.h"
#include "compress/leverage.h"
#include "compress/reference.h"
#include "restkv/compress.h"
#include "restkv/error.h"
#include "restkv/stages.h"
#include "support/refusal.h"

namespace restkv {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::RandomLayer;

constexpr size_t kHeads = 4;
constexpr size_t kGroups = 2;
constexpr size_t kDim = 24;

CompressionOptions options_for(std::string_view method, int window, int budget) {
  CompressionOptions options = default_options(method);
  options.window = window;
  options.budget = budget;
  return options;
}

using Rows = std::vector<std::vector<double>>;

/// Logits of the last `window` queries of a query head over all keys; -infinity where masked.
Rows window_logits(const LayerObservation& layer, size_t head, size_t window) {
  const size_t n = layer.keys.rows;
  const size_t kv_head = head * layer.keys.heads / layer.queries.heads;
  const double scale =
      layer.scale > 0 ? double{layer.scale} : 1.0 / std::sqrt(double(layer.keys.dim));
  Rows rows(window, std::vector<double>(n, -INFINITY));
  for (size_t r = 0; r < window; ++r) {
    const float* q = layer.queries.row(head, layer.queries.rows - window + r);
    for (size_t j = 0; j < n - window + r + 1; ++j) {
      double z = 0.0;
      for (size_t c = 0; c < layer.keys.dim; ++c) z += double{q[c]} * layer.keys.row(kv_head, j)[c];
      z *= scale;
      if (layer.softcap > 0) z = layer.softcap * std::tanh(z / layer.softcap);
      rows[r][j] = z;
    }
  }
  return rows;
}

void softmax(std::vector<double>& row) {
  const double largest = *std::max_element(row.begin(), row.end());
  double sum = 0.0;
  for (double& x : row) sum += x = std::exp(x - largest);
  for (double& x : row) x /= sum;
}

void expect_near(const std::vector<float>& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  double largest = 0.0;
  for (const double x : expected) largest = std::max(largest, std::abs(x));
  for (size_t j = 0; j < actual.size(); ++j) {
    ASSERT_NEAR(actual[j], expected[j], 1e-4 * std::abs(expected[j]) + 1e-6 * largest) << j;
  }
}

TEST(ChunkKvTest, KeepsWholeChunksAlikeInAllHeads) {
  const RandomLayer layer(kHeads, kGroups, 203, kDim, 8, 32, 1);
  for (const char* inner : {"snapkv", "restkv", "keydiff", "knorm"}) {
    for (const int length : {1, 7, 20, 50, 90}) {
      CompressionOptions options = options_for("chunkkv", 8, 90);
      options.own["chunk_length"] = length;
      options.own["chunk_score"] = inner;
      SCOPED_TRACE(std::string(inner) + ", chunks of " + std::to_string(length));
      const Selection selection = select_tokens(layer.view, options);
      ASSERT_EQ(selection.keep.size(), kGroups);
      EXPECT_EQ(selection.keep[0], selection.keep[1]);
      std::set<int32_t> chunks;
      for (const int32_t j : selection.keep[0]) chunks.insert(j / length);
      EXPECT_EQ(chunks.size(), static_cast<size_t>(90 / length));
      size_t expected = 0;
      for (const int32_t c : chunks) expected += std::min(length, 203 - c * length);
      EXPECT_EQ(selection.keep[0].size(), expected);
    }
  }
}

TEST(ChunkKvTest, AScoreIsTheMeanOfItsPositions) {
  const RandomLayer layer(kHeads, kGroups, 100, kDim, 8, 32, 2);
  CompressionOptions options = options_for("chunkkv", 8, 60);
  options.own["chunk_length"] = 30;
  SelectionTrace trace;
  select_tokens(layer.view, options, &trace);
  CompressionOptions inner = options_for("snapkv", 8, 60);
  SelectionTrace of_inner;
  select_tokens(layer.view, inner, &of_inner);
  float largest = 0.0F;
  for (const auto& row : of_inner.scores) {
    largest = std::max(largest, *std::max_element(row.begin(), row.end()));
  }
  for (size_t begin = 0; begin < 100; begin += 30) {
    const size_t end = std::min<size_t>(100, begin + 30);
    double sum = 0.0;
    for (const auto& row : of_inner.scores) {
      for (size_t j = begin; j < end; ++j) sum += j < row.size() ? row[j] : largest + 1.0F;
    }
    EXPECT_NEAR(trace.scores[1][begin], sum / double(end - begin), 1e-6);
  }
}

TEST(ChunkKvTest, AHeadThatMayKeepLessThanAChunkKeepsItsBeginning) {
  LayerScores scores(1, 10);
  scores.values = {1, 1, 1, 1, 3, 3, 3, 3, 2, 2};
  scores.chunk = 4;
  const auto keep = [&](size_t count) {
    const std::vector<size_t> counts{count};
    return select_best(scores, counts, 10).keep[0];
  };
  EXPECT_EQ(keep(0), (std::vector<int32_t>{}));
  EXPECT_EQ(keep(3), (std::vector<int32_t>{4, 5, 6}));
  EXPECT_EQ(keep(7), (std::vector<int32_t>{4, 5, 6, 7}));
  EXPECT_EQ(keep(8), (std::vector<int32_t>{4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(keep(10).size(), 10U);
}

TEST(FinchTest, EveryChunkKeepsItsPartOfTheBudget) {
  const RandomLayer layer(kHeads, kGroups, 207, kDim, 40, 32, 3);
  for (const int window : {3, 19, 40}) {
    for (const int length : {10, 25, 60, 206, 207, 500}) {
      CompressionOptions options = options_for("finch", window, 90);
      options.own["chunk_length"] = length;
      SCOPED_TRACE("window " + std::to_string(window) + ", chunks of " + std::to_string(length));
      for (const auto& keep : select_tokens(layer.view, options).keep) {
        ASSERT_EQ(keep.size(), 90U);
        ASSERT_EQ(keep[90 - static_cast<size_t>(window)], 207 - window);
        const int first_of_window = (207 - window) / length;
        std::vector<int> kept(static_cast<size_t>(207 / length + 1), 0);
        for (const int32_t j : keep) ++kept[static_cast<size_t>(j / length)];
        // The window may take more than the part of its chunks, at the cost of those just before.
        for (int c = 0; c + 7 < first_of_window; ++c) {
          const double part = double(length) * 90 / 207;
          EXPECT_NEAR(kept[static_cast<size_t>(c)], part, 1.0) << "chunk " << c;
        }
      }
    }
  }
}

TEST(FinchTest, RowsCountByTheTokensThatTheySee) {
  const RandomLayer layer(kHeads, kGroups, 120, kDim, 9, 32, 4);
  for (const bool weigh : {true, false}) {
    CompressionOptions options = options_for("finch", 9, 40);
    options.own["weigh_rows"] = weigh;
    SelectionTrace trace;
    select_tokens(layer.view, options, &trace);
    for (size_t kv_head = 0; kv_head < kGroups; ++kv_head) {
      std::vector<double> expected(111, 0.0);
      for (size_t h = 2 * kv_head; h < 2 * kv_head + 2; ++h) {
        Rows rows = window_logits(layer.view, h, 9);
        for (size_t r = 0; r < 9; ++r) {
          softmax(rows[r]);
          for (size_t j = 0; j < 111; ++j) {
            expected[j] += rows[r][j] * (weigh ? double(111 + r) : 1.0) / 18.0;
          }
        }
      }
      expect_near(trace.scores[kv_head], expected);
    }
  }
}

TEST(DropKvTest, IsTheSquaredChangeOfTheOutputs) {
  for (const float softcap : {0.0F, 3.0F}) {
    RandomLayer layer(kHeads, kGroups, 150, kDim, 12, 32, 5, 4.0F);
    layer.view.softcap = softcap;
    CompressionOptions options = options_for("dropkv", 12, 50);
    options.kernel = 1;
    options.own["drop_epsilon"] = 1e-3;
    SelectionTrace trace;
    select_tokens(layer.view, options, &trace);
    for (size_t kv_head = 0; kv_head < kGroups; ++kv_head) {
      std::vector<double> expected(138, 0.0);
      for (size_t h = 2 * kv_head; h < 2 * kv_head + 2; ++h) {
        Rows rows = window_logits(layer.view, h, 12);
        for (std::vector<double>& row : rows) {
          softmax(row);
          std::vector<double> output(kDim, 0.0);
          for (size_t j = 0; j < 150; ++j) {
            for (size_t c = 0; c < kDim; ++c) {
              output[c] += row[j] * layer.view.values.row(kv_head, j)[c];
            }
          }
          for (size_t j = 0; j < 138; ++j) {
            double square = 0.0;
            for (size_t c = 0; c < kDim; ++c) {
              square += std::pow(layer.view.values.row(kv_head, j)[c] - output[c], 2);
            }
            expected[j] += std::pow(row[j] / (1 - row[j] + 1e-3), 2) * square / 2;
          }
        }
      }
      expect_near(trace.scores[kv_head], expected);
    }
  }
}

// The window's own columns take part in the pooling, unlike those of snapkv.
TEST(DropKvTest, PoolsAcrossTheEdgeOfTheWindow) {
  const RandomLayer layer(2, 1, 60, kDim, 12, 32, 6);
  CompressionOptions options = options_for("dropkv", 12, 30);
  options.kernel = 1;
  SelectionTrace plain;
  select_tokens(layer.view, options, &plain);
  options.kernel = 5;
  SelectionTrace pooled;
  select_tokens(layer.view, options, &pooled);
  const std::vector<float>& raw = plain.scores[0];
  const auto at = [&](size_t j) { return double{raw[j]}; };
  EXPECT_NEAR(pooled.scores[0][20], (at(18) + at(19) + at(20) + at(21) + at(22)) / 5,
              1e-6 * pooled.scores[0][20]);
  EXPECT_GT(pooled.scores[0][47], (at(45) + at(46) + at(47)) / 5);
}

TEST(CakeTest, IsMeanAndVarianceOfTheWindow) {
  const RandomLayer layer(kHeads, kGroups, 120, kDim, 9, 32, 4);
  CompressionOptions options = options_for("cake", 9, 40);
  options.pooling = Pooling::kNone;
  options.own["gamma"] = 30.0;
  SelectionTrace trace;
  select_tokens(layer.view, options, &trace);
  for (size_t kv_head = 0; kv_head < kGroups; ++kv_head) {
    std::vector<double> expected(111, 0.0);
    for (size_t h = 2 * kv_head; h < 2 * kv_head + 2; ++h) {
      Rows rows = window_logits(layer.view, h, 9);
      for (auto& row : rows) softmax(row);
      for (size_t j = 0; j < 111; ++j) {
        double mean = 0.0;
        for (const auto& row : rows) mean += row[j] / 9;
        double variance = 0.0;
        for (const auto& row : rows) variance += (row[j] - mean) * (row[j] - mean) / 8;
        expected[j] += (mean + 30.0 * variance) / 2;
      }
    }
    expect_near(trace.scores[kv_head], expected);
  }
}

TEST(CakeTest, BudgetsAddUpAndFollowThePreferences) {
  const std::vector<double> preferences{1, 4, 0.5, 2.5};
  EXPECT_EQ(cake_budgets(preferences, 80, 1000), (std::vector<size_t>{10, 40, 5, 25}));
  // What the second layer cannot hold goes to the others in equal parts, the first getting more.
  EXPECT_EQ(cake_budgets(preferences, 80, 30), (std::vector<size_t>{14, 30, 8, 28}));
  EXPECT_EQ(cake_budgets(preferences, 400, 30), (std::vector<size_t>{30, 30, 30, 30}));
  EXPECT_EQ(cake_budgets(std::vector<double>{0, 0, 0}, 31, 100), (std::vector<size_t>{11, 10, 10}));
  EXPECT_EQ(cake_budgets(std::vector<double>{3}, 10, 4), (std::vector<size_t>{4}));
}

TEST(RkvTest, IsAttentionLessRedundancy) {
  for (const size_t n : {30, 65, 200}) {
    for (const char* representative : {"last", "first"}) {
      RandomLayer layer(kHeads, kGroups, n, kDim, 6, 32, 7, 3.0F);
      // Some keys alike, and one that equals nothing.
      for (size_t j = 3; j + 7 < n; j += 5) {
        std::copy_n(&layer.k[j * kGroups * kDim], kGroups * kDim,
                    &layer.k[(j + 7) * kGroups * kDim]);
      }
      layer.view.softcap = 20.0F;
      CompressionOptions options = options_for("rkv", 6, 20);
      options.kernel = 3;
      options.own["mix_lambda"] = 0.4;
      options.own["representative"] = representative;
      SelectionTrace trace;
      select_tokens(layer.view, options, &trace);
      const size_t past = n - 6;
      for (size_t kv_head = 0; kv_head < kGroups; ++kv_head) {
        std::vector<double> attention(past, 0.0);
        const Rows a = window_logits(layer.view, 2 * kv_head, 6);
        const Rows b = window_logits(layer.view, 2 * kv_head + 1, 6);
        for (size_t r = 0; r < 6; ++r) {
          std::vector<double> row(past);
          for (size_t j = 0; j < past; ++j) row[j] = std::max(a[r][j], b[r][j]);
          softmax(row);
          for (size_t j = 0; j < past; ++j) attention[j] += row[j] / 6;
        }
        Rows cosine(n, std::vector<double>(n, 0.0));
        const auto key = [&](size_t j, size_t c) {
          return double{layer.view.keys.row(kv_head, j)[c]};
        };
        std::vector<double> norm(n, 0.0);
        for (size_t j = 0; j < n; ++j) {
          for (size_t c = 0; c < kDim; ++c) norm[j] += key(j, c) * key(j, c);
          norm[j] = std::sqrt(norm[j]);
        }
        for (size_t i = 0; i < n; ++i) {
          size_t similar = 0;
          for (size_t j = 0; j < n; ++j) {
            if (i == j) continue;
            for (size_t c = 0; c < kDim; ++c) cosine[i][j] += key(i, c) * key(j, c);
            cosine[i][j] /= norm[i] * norm[j];
            if (cosine[i][j] > 0.5) similar = j;
          }
          cosine[i][std::string_view(representative) == "last" ? similar : 0] = 0.0;
        }
        std::vector<double> redundancy(n, 0.0);
        for (size_t j = 0; j < n; ++j) {
          for (size_t i = 0; i < n; ++i) redundancy[j] += cosine[i][j] / double(n);
        }
        softmax(redundancy);
        std::vector<double> expected(past);
        for (size_t j = 0; j < past; ++j) {
          double pooled = attention[j];
          if (j > 0) pooled = std::max(pooled, attention[j - 1]);
          if (j + 1 < past) pooled = std::max(pooled, attention[j + 1]);
          expected[j] = 0.4 * pooled - 0.6 * redundancy[j];
        }
        expect_near(trace.scores[kv_head], expected);
      }
    }
  }
}

TEST(LeverageTest, IsTheRowsShareInTheSpanOfAll) {
  const RandomLayer layer(kHeads, kGroups, 80, kDim, 4, 32, 8);
  constexpr size_t kColumns = 6;
  const Sketches sketches = gaussian_sketches(layer.view, kColumns, 3);
  ASSERT_EQ(sketches.size(), kGroups);
  EXPECT_NE(sketches[0], sketches[1]);
  const Heads<const float> keys = layer.view.unrotated_keys;
  // X and (X'X + 0.01 I)^-1 X' by Gauss and Jordan.
  Rows x(80, std::vector<double>(kColumns, 0.0));
  std::vector<double> mean(kDim, 0.0);
  for (size_t i = 0; i < 80; ++i) {
    for (size_t c = 0; c < kDim; ++c) mean[c] += keys.row(0, i)[c] / 80.0;
  }
  for (size_t i = 0; i < 80; ++i) {
    for (size_t s = 0; s < kColumns; ++s) {
      for (size_t c = 0; c < kDim; ++c) {
        x[i][s] += (keys.row(0, i)[c] - mean[c]) * sketches[0][c * kColumns + s] / std::sqrt(6.0);
      }
    }
  }
  Rows table(kColumns, std::vector<double>(kColumns + 80, 0.0));
  for (size_t a = 0; a < kColumns; ++a) {
    for (size_t b = 0; b < kColumns; ++b) {
      for (size_t i = 0; i < 80; ++i) table[a][b] += x[i][a] * x[i][b];
    }
    table[a][a] += 0.01;
    for (size_t i = 0; i < 80; ++i) table[a][kColumns + i] = x[i][a];
  }
  for (size_t a = 0; a < kColumns; ++a) {
    const double pivot = table[a][a];
    for (double& value : table[a]) value /= pivot;
    for (size_t b = 0; b < kColumns; ++b) {
      if (a == b) continue;
      const double factor = table[b][a];
      for (size_t c = 0; c < table[b].size(); ++c) table[b][c] -= factor * table[a][c];
    }
  }
  std::vector<double> expected(80, 0.0);
  for (size_t i = 0; i < 80; ++i) {
    for (size_t a = 0; a < kColumns; ++a) expected[i] += x[i][a] * table[a][kColumns + i];
  }
  expect_near(leverage_scores(keys.head(0), {sketches[0].data(), kDim, kColumns}), expected);
  // A ridge of the smallest kind: the shares add up to the rank.
  EXPECT_NEAR(std::accumulate(expected.begin(), expected.end(), 0.0), 6.0, 0.1);
}

TEST(LeverageTest, DependsOnTheSeedAndTheHeadOnly) {
  const RandomLayer layer(kHeads, kGroups, 80, kDim, 4, 32, 9);
  const auto sketch = [&](uint64_t seed, size_t index, size_t first_query_head) {
    LayerObservation view = layer.view;
    view.layer = index;
    view.first_query_head = first_query_head;
    return gaussian_sketches(view, 5, seed)[0];
  };
  EXPECT_EQ(sketch(1, 2, 0), sketch(1, 2, 0));
  EXPECT_NE(sketch(1, 2, 0), sketch(2, 2, 0));
  EXPECT_NE(sketch(1, 2, 0), sketch(1, 3, 0));
  // A part of a layer's heads gets the numbers of the whole.
  LayerObservation whole = layer.view;
  whole.layer = 2;
  EXPECT_EQ(sketch(1, 2, 2), gaussian_sketches(whole, 5, 1)[1]);
  double sum = 0.0;
  double squares = 0.0;
  const auto numbers = gaussian_sketches(layer.view, 500, 4)[0];
  for (const float x : numbers) {
    sum += double{x};
    squares += double{x} * double{x};
  }
  const auto count = static_cast<double>(numbers.size());
  EXPECT_NEAR(sum / count, 0.0, 0.04);
  EXPECT_NEAR(squares / count, 1.0, 0.06);
}

TEST(CompactorTest, IsLeverageAndAttentionWithinChunks) {
  constexpr size_t kLength = 97;
  RandomLayer layer(kHeads, kGroups, kLength, kDim, kLength, 32, 8, 0.5F);
  CompressionOptions options = options_for("compactor", 0, 40);
  options.sinks = 5;
  options.own["recent"] = 3;
  options.own["chunk_length"] = 30;  // the last of 89 positions is short of one
  options.own["blending"] = 0.7;
  options.own["sketch"] = 6;
  // Two blocks: each begins a chunk.
  std::vector<float> numbers(kHeads * kLength, NAN);
  const Matrix<float> watched(numbers.data(), kHeads, kLength);
  for (const auto& [begin, end] : {std::pair<size_t, size_t>{0, 65}, {65, kLength}}) {
    find_method("compactor")
        .watch({.queries = layer.view.queries.slice_rows(begin, end - begin),
                .own_keys = layer.view.keys.slice_rows(begin, end - begin),
                .own_values = layer.view.values.slice_rows(begin, end - begin),
                .keys = layer.view.keys.slice_rows(0, end),
                .values = layer.view.values.slice_rows(0, end),
                .begin = begin,
                .end = end},
               options, watched);
  }
  layer.view.watched = watched;
  SelectionTrace trace;
  select_tokens(layer.view, options, &trace);
  const auto standardized = [](Rows rows) {
    double mean = 0.0;
    double variance = 0.0;
    const double count = double(rows.size() * rows[0].size());
    for (const auto& row : rows) {
      for (const double x : row) mean += x / count;
    }
    for (const auto& row : rows) {
      for (const double x : row) variance += (x - mean) * (x - mean) / (count - 1);
    }
    for (auto& row : rows) {
      for (double& x : row) x = (x - mean) / std::sqrt(variance);
    }
    return rows;
  };
  Rows attention(kGroups, std::vector<double>(89, 0.0));
  Rows leverage(kGroups);
  const Sketches sketches = gaussian_sketches(layer.view, 6, 0);
  for (size_t kv_head = 0; kv_head < kGroups; ++kv_head) {
    for (size_t first = 0; first < 89; first += 30) {
      const size_t end = std::min<size_t>(89, first + 30);
      for (size_t h = 2 * kv_head; h < 2 * kv_head + 2; ++h) {
        for (size_t t = first; t < first + 30; ++t) {
          std::vector<double> row(30, 0.0);  // tokens of zeros where the prompt has ended
          for (size_t j = first; j < end && t < end; ++j) {
            for (size_t c = 0; c < kDim; ++c) {
              row[j - first] += double{layer.view.queries.row(h, 5 + t)[c]} *
                                layer.view.keys.row(kv_head, 5 + j)[c];
            }
          }
          softmax(row);
          for (size_t j = first; j < end; ++j) attention[kv_head][j] += row[j - first] / 2;
        }
      }
    }
    std::vector<double> weighed(89);
    for (size_t j = 0; j < 89; ++j) {
      double square = 0.0;
      for (size_t c = 0; c < kDim; ++c) {
        square += std::pow(double{layer.view.values.row(kv_head, 5 + j)[c]}, 2);
      }
      weighed[j] = attention[kv_head][j] * std::sqrt(square);
    }
    for (size_t j = 0; j < 89; ++j) {
      attention[kv_head][j] = weighed[j];
      if (j > 0) attention[kv_head][j] += weighed[j - 1];
      if (j + 1 < 89) attention[kv_head][j] += weighed[j + 1];
      attention[kv_head][j] /= 3;
    }
    const auto scores = leverage_scores(layer.view.unrotated_keys.head(kv_head).slice(5, 89),
                                        {sketches[kv_head].data(), kDim, 6});
    leverage[kv_head].assign(scores.begin(), scores.end());
  }
  attention = standardized(attention);
  leverage = standardized(leverage);
  float largest = 0.0F;
  for (size_t kv_head = 0; kv_head < kGroups; ++kv_head) {
    ASSERT_EQ(trace.scores[kv_head].size(), 94U);
    for (size_t j = 0; j < 89; ++j) {
      const float actual = trace.scores[kv_head][5 + j];
      largest = std::max(largest, actual);
      ASSERT_NEAR(actual, attention[kv_head][j] + 0.7 * leverage[kv_head][j], 1e-3) << j;
    }
  }
  EXPECT_GT(trace.scores[0][0], largest);  // sinks stay
}

TEST(CompactorTest, TokensThatNobodyWatchedCountByTheirLeverage) {
  constexpr size_t kLength = 60;
  RandomLayer layer(kHeads, kGroups, kLength, kDim, kLength, 32, 8, 0.5F);
  CompressionOptions options = options_for("compactor", 0, 30);
  options.sinks = 0;
  options.own["recent"] = 0;
  std::vector<float> numbers(kHeads * kLength, 1.0F);
  for (size_t h = 0; h < kHeads; ++h) numbers[h * kLength + 41] = NAN;
  layer.view.watched = {numbers.data(), kHeads, kLength};
  SelectionTrace trace;
  select_tokens(layer.view, options, &trace);
  options.method = "leverage";
  options.own = {};
  SelectionTrace alone;
  select_tokens(layer.view, options, &alone);
  for (size_t h = 0; h < kGroups; ++h) {
    EXPECT_NEAR(trace.scores[h][41], 0.35 * alone.scores[h][41], 1e-5);
    EXPECT_NE(trace.scores[h][40], trace.scores[h][41]);
  }
}

TEST(WindowMethodsTest, RefuseByName) {
  const auto refused = [](std::string_view method, auto change) {
    CompressionOptions options = default_options(method);
    change(options);
    return testing::refusal_if_any(ErrorCode::kInvalidArgument, [&] { validate(options); });
  };
  for (const char* method : {"cake", "chunkkv", "finch", "dropkv", "rkv"}) {
    EXPECT_THAT(refused(method, [](auto& o) { o.window = 0; }), HasSubstr("window is 0")) << method;
    EXPECT_THAT(refused(method, [](auto& o) { o.budget = o.window; }),
                AllOf(HasSubstr("no room"), HasSubstr("raise")))
        << method;
  }
  EXPECT_THAT(refused("snapkv",
                      [](auto& o) {
                        o.allocation = "cake";
                        o.cake_tau2 = 0;
                      }),
              HasSubstr("cake_tau2 0"));
  EXPECT_THAT(refused("cake", [](auto& o) { o.window = 1; }), HasSubstr("window is 1"));
  EXPECT_THAT(refused("cake", [](auto& o) { o.own["gamma"] = -1.0; }), HasSubstr("gamma is -1"));
  for (const char* method : {"cake", "chunkkv", "dropkv", "rkv"}) {
    EXPECT_THAT(refused(method, [](auto& o) { o.kernel = 4; }), HasSubstr("kernel is 4")) << method;
  }
  EXPECT_THAT(refused("chunkkv", [](auto& o) { o.own["chunk_length"] = 0; }),
              HasSubstr("chunk_length is 0"));
  EXPECT_THAT(refused("chunkkv", [](auto& o) { o.own["chunk_length"] = 2000; }),
              AllOf(HasSubstr("budget 1024"), HasSubstr("2000"), HasSubstr("raise")));
  EXPECT_THAT(refused("chunkkv", [](auto& o) { o.allocation = "ada"; }), HasSubstr("chunkkv"));
  EXPECT_THAT(refused("chunkkv", [](auto& o) { o.critical = true; }), HasSubstr("chunkkv"));
  EXPECT_EQ(refused("chunkkv", [](auto& o) { o.allocation = "pyramid"; }), "");
  EXPECT_THAT(refused("finch", [](auto& o) { o.own["chunk_length"] = -1; }),
              HasSubstr("chunk_length is -1"));
  EXPECT_THAT(refused("finch",
                      [](auto& o) {
                        o.own["chunk_length"] = 50;
                        o.allocation = "pyramid";
                      }),
              HasSubstr("must be uniform"));
  EXPECT_THAT(refused("dropkv", [](auto& o) { o.own["drop_epsilon"] = 0.0; }),
              HasSubstr("drop_epsilon is 0"));
  for (const double lambda : {-0.1, 1.1}) {
    EXPECT_THAT(refused("rkv", [&](auto& o) { o.own["mix_lambda"] = lambda; }),
                HasSubstr("mix_lambda is"));
  }
  for (const int columns : {0, 5000}) {
    EXPECT_THAT(refused("leverage", [&](auto& o) { o.own["sketch"] = columns; }),
                HasSubstr("sketch is"));
  }
  EXPECT_THAT(refused("compactor", [](auto& o) { o.own["sketch"] = 0; }), HasSubstr("sketch is 0"));
  EXPECT_THAT(refused("compactor", [](auto& o) { o.own["recent"] = -1; }), HasSubstr("recent -1"));
  EXPECT_THAT(refused("compactor", [](auto& o) { o.sinks = -1; }), HasSubstr("sinks is -1"));
  EXPECT_THAT(refused("compactor", [](auto& o) { o.budget = 12; }), HasSubstr("budget 12"));
  EXPECT_THAT(refused("compactor", [](auto& o) { o.own["chunk_length"] = 0; }),
              HasSubstr("chunk_length is 0"));
  EXPECT_THAT(refused("compactor", [](auto& o) { o.own["blending"] = -0.5; }),
              HasSubstr("blending is -0.5"));
  RandomLayer layer(kHeads, kGroups, 80, kDim, 40, 32, 9);
  layer.view.unrotated_keys = {};
  EXPECT_THAT(testing::refusal(ErrorCode::kInvalidArgument,
                               [&] {
                                 CompressionOptions options = options_for("leverage", 0, 20);
                                 select_tokens(layer.view, options);
                               }),
              AllOf(HasSubstr("leverage"), HasSubstr("unrotated_keys"), HasSubstr("[2, 80, 24]")));
}

}  // namespace
}  // namespace restkv
