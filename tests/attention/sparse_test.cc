// What each pattern keeps, against plain loops over the n x n matrix of weights.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "attention/attention_precision.h"
#include "attention/reference.h"
#include "attention/sparse/antidiagonal.h"
#include "attention/sparse/lines.h"
#include "attention/sparse/pattern.h"
#include "attention/sparse/sampled_attention.h"
#include "restkv/error.h"
#include "support/refusal.h"
#include "support/simd.h"

namespace restkv {
namespace {

constexpr size_t kTile = kMaskTile;

/// Queries and keys of one layer with some structure: a key that all queries of a head look for,
/// each head more eagerly than the one before.
struct Layer {
  size_t heads = 4, kv_heads = 2, dim = 32, rows = 500;
  AttentionOptions attention = {};
  std::vector<float> q = {}, k = {};

  Layer& fill(uint32_t seed) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    q.resize(heads * rows * dim);
    k.resize(kv_heads * rows * dim);
    for (auto* x : {&q, &k}) std::generate(x->begin(), x->end(), [&] { return normal(rng); });
    std::uniform_int_distribution<size_t> row(0, rows - 1);
    for (size_t h = 0; h < heads; ++h) {
      const size_t wanted = row(rng);
      const auto eagerness = 0.3F * static_cast<float>(h);
      for (size_t i = 0; i < rows; ++i) {
        for (size_t c = 0; c < dim; ++c) {
          q[(h * rows + i) * dim + c] +=
              eagerness * k[(h * kv_heads / heads * rows + wanted) * dim + c];
        }
      }
    }
    return *this;
  }
  [[nodiscard]] Heads<const float> queries() const { return {q.data(), heads, rows, dim}; }
  [[nodiscard]] Heads<const float> keys() const { return {k.data(), kv_heads, rows, dim}; }
  [[nodiscard]] size_t tiles() const { return tiles_of(rows); }

  [[nodiscard]] double logit(size_t h, size_t i, size_t j) const {
    double z = 0;
    for (size_t c = 0; c < dim; ++c) {
      z += double{queries().row(h, i)[c]} * keys().row(h * kv_heads / heads, j)[c];
    }
    return z / std::sqrt(static_cast<double>(dim));
  }
  [[nodiscard]] double capped(double z) const {
    return attention.softcap > 0 ? attention.softcap * std::tanh(z / attention.softcap) : z;
  }
  /// Softmax over the keys that row i sees.
  [[nodiscard]] std::vector<double> weights(size_t h, size_t i) const {
    std::vector<double> w(i + 1);
    for (size_t j = 0; j <= i; ++j) w[j] = std::exp(capped(logit(h, i, j)));
    const double total = std::accumulate(w.begin(), w.end(), 0.0);
    for (double& x : w) x /= total;
    return w;
  }
  [[nodiscard]] SparseLayer seen_ahead() const {
    const size_t last = std::min(rows, kTile);
    return {.attention = attention,
            .keys = keys(),
            .last_queries = queries().slice_rows(rows - last, last)};
  }
};

/// Marks of a whole layer, asked for in blocks of `block` queries: [heads][blocks][tiles].
std::vector<uint8_t> marks_of(const Layer& layer, const std::string& text, size_t block = 512) {
  const SparseOptions options = parse_sparse(text);
  const SparsePattern& pattern = find_sparse_pattern(options.pattern);
  const std::unique_ptr<LayerPattern> made = pattern.make(
      options, pattern.looks_ahead
                   ? layer.seen_ahead()
                   : SparseLayer{.attention = layer.attention, .keys = {}, .last_queries = {}});
  const size_t tiles = layer.tiles();
  std::vector<uint8_t> all(layer.heads * tiles * tiles);
  for (size_t first = 0; first < layer.rows; first += block) {
    const size_t rows = std::min(block, layer.rows - first);
    std::vector<uint8_t> some(layer.heads * tiles_of(rows) * tiles_of(first + rows));
    const TileMarks marks(some.data(), layer.heads, tiles_of(rows), tiles_of(first + rows));
    made->mark(layer.queries().slice_rows(first, rows), layer.keys(), first, marks);
    for (size_t h = 0; h < layer.heads; ++h) {
      for (size_t b = 0; b < marks.rows; ++b) {
        // What lies behind a block's queries is of no interest.
        const size_t visible = first / kTile + b + 1;
        std::copy_n(marks.row(h, b), visible, all.data() + (h * tiles + first / kTile + b) * tiles);
      }
    }
  }
  return all;
}

bool marked(const std::vector<uint8_t>& marks, const Layer& layer, size_t h, size_t b, size_t t) {
  return marks[(h * layer.tiles() + b) * layer.tiles() + t] != 0;
}

/// Tiles in order of falling score, as many as reach the share.
std::set<size_t> fewest(const std::vector<double>& scores, double share, size_t least) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  const double total = std::accumulate(scores.begin(), scores.end(), 0.0);
  std::set<size_t> kept;
  double sum = 0;
  for (const size_t i : order) {
    if (sum >= share * total && kept.size() >= least) break;
    kept.insert(i);
    sum += scores[i];
  }
  return kept;
}

TEST(SparsePatterns, FewestAndLargestAreThoseOfSorting) {
  std::mt19937 rng(9);
  for (const size_t n : {1, 31, 33, 200, 3001}) {
    for (const bool ties : {false, true}) {
      std::vector<float> scores(n);
      std::exponential_distribution<float> draw;
      for (float& x : scores) x = ties ? std::floor(4 * draw(rng)) : draw(rng) * draw(rng);
      const std::vector<double> exact(scores.begin(), scores.end());
      const auto as_set = [](const std::vector<uint32_t>& indices) {
        return std::set<size_t>(indices.begin(), indices.end());
      };
      for (const double share : {0.01, 0.5, 0.9, 1.0}) {
        for (const size_t least : {size_t{0}, n / 3, n}) {
          const auto expected = fewest(exact, share, share == 1 ? n : least);
          EXPECT_EQ(as_set(fewest_reaching(scores, share, least)), expected)
              << n << ", " << share << ", at least " << least;
        }
      }
      for (const size_t count : {size_t{0}, n / 2, n, n + 5}) {
        EXPECT_EQ(as_set(largest(scores, count)), fewest(exact, 0, std::min(n, count))) << n;
      }
    }
  }
}

/// Column and diagonal sums, in tiles, of the last queries' attention.
struct Votes {
  std::vector<double> columns, diagonals;
};
Votes votes_of(const Layer& layer, size_t h) {
  Votes votes{std::vector<double>(layer.tiles(), 0.0), std::vector<double>(layer.tiles(), 0.0)};
  for (size_t i = layer.rows - std::min(layer.rows, kTile); i < layer.rows; ++i) {
    const std::vector<double> w = layer.weights(h, i);
    for (size_t j = 0; j <= i; ++j) {
      votes.columns[j / kTile] += w[j];
      votes.diagonals[(i - j) / kTile] += w[j];
    }
  }
  return votes;
}

/// Whether a block of queries meets a tile on one of these diagonals of tiles.
bool on_diagonal(const std::set<size_t>& diagonals, size_t b, size_t t) {
  for (size_t i = b * kTile; i < (b + 1) * kTile; ++i) {
    for (size_t j = t * kTile; j < (t + 1) * kTile; ++j) {
      if (j <= i && diagonals.contains((i - j) / kTile)) return true;
    }
  }
  return false;
}

void expect_lines(const Layer& layer, const std::vector<uint8_t>& marks, size_t h,
                  const std::set<size_t>& columns, const std::set<size_t>& diagonals) {
  for (size_t b = 0; b < layer.tiles(); ++b) {
    for (size_t t = 0; t < b; ++t) {  // a block's own tile is computed anyway
      EXPECT_EQ(marked(marks, layer, h, b, t), columns.contains(t) || on_diagonal(diagonals, b, t))
          << "head " << h << ", block " << b << ", tile " << t;
    }
  }
}

TEST(SparsePatterns, AShapeKeepsSinksAndABand) {
  const Layer layer = Layer{.rows = 1000}.fill(1);
  for (const auto& [sinks, local] : {std::pair<size_t, size_t>{100, 200}, {0, 0}, {64, 5000}}) {
    const auto marks = marks_of(
        layer, "a-shape:sinks=" + std::to_string(sinks) + ":local=" + std::to_string(local), 256);
    for (size_t b = 0; b < layer.tiles(); ++b) {
      for (size_t t = 0; t < b; ++t) {
        const bool sink = t < tiles_of(sinks);
        const bool near = (t + 1) * kTile > b * kTile - std::min(b * kTile, local);
        EXPECT_EQ(marked(marks, layer, 3, b, t), sink || near) << b << ", " << t;
      }
    }
  }
}

TEST(SparsePatterns, LineVotesAreSumsOfTheAttentionMatrix) {
  for (const size_t rows : {64, 65, 130, 500}) {
    for (const float softcap : {0.0F, 3.0F}) {
      const Layer layer = Layer{.rows = rows, .attention = {.softcap = softcap}}.fill(2);
      for (const int64_t target : testing::simd_targets()) {
        const testing::ForcedSimdTarget forced(target);
        const LineVotes votes = line_votes(layer.seen_ahead());
        for (size_t h = 0; h < layer.heads; ++h) {
          const Votes expected = votes_of(layer, h);
          for (size_t t = 0; t < layer.tiles(); ++t) {
            ASSERT_NEAR(votes.columns[h][t], expected.columns[t], 1e-3) << rows << ", tile " << t;
            ASSERT_NEAR(votes.diagonals[h][t], expected.diagonals[t], 1e-3) << rows << ", " << t;
          }
        }
      }
    }
  }
}

TEST(SparsePatterns, VerticalSlashKeepsWhatTheLastQueriesLookAt) {
  for (const size_t rows : {640, 701}) {
    const Layer layer = Layer{.heads = 6, .rows = rows}.fill(3);
    const auto marks = marks_of(layer, "vertical-slash:vertical=128:slash=100");
    for (size_t h = 0; h < layer.heads; ++h) {
      const Votes votes = votes_of(layer, h);
      expect_lines(layer, marks, h, fewest(votes.columns, 0, 2), fewest(votes.diagonals, 0, 2));
    }
  }
}

/// Attention of a block's mean query to the mean keys of the tiles that it sees.
std::vector<double> pooled(const Layer& layer, size_t h, size_t begin, size_t end) {
  std::vector<double> weights(tiles_of(end));
  for (size_t t = 0; t < weights.size(); ++t) {
    const size_t tile_end = std::min((t + 1) * kTile, layer.rows);
    double sum = 0;
    for (size_t i = begin; i < end; ++i) {
      for (size_t j = t * kTile; j < tile_end; ++j) sum += layer.logit(h, i, j);
    }
    const auto pairs = static_cast<double>((end - begin) * (tile_end - t * kTile));
    weights[t] = std::exp(layer.capped(sum / pairs));
  }
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& w : weights) w /= total;
  return weights;
}

TEST(SparsePatterns, FlexPrefillTrustsAnEstimateWhereItAgreesWithTheLastQueries) {
  for (const uint32_t seed : {4, 5}) {
    const Layer layer = Layer{.heads = 6, .rows = 640}.fill(seed);
    constexpr double kTau = 0.12;
    constexpr double kGamma = 0.7;
    const auto marks = marks_of(layer, "flexprefill:gamma=0.7:tau=0.12:min_tokens=128", 256);
    size_t trusted = 0;
    for (size_t h = 0; h < layer.heads; ++h) {
      const Votes votes = votes_of(layer, h);
      const std::vector<double> estimate = pooled(layer, h, layer.rows - kTile, layer.rows);
      double divergence = 0;
      for (size_t t = 0; t < layer.tiles(); ++t) {
        const double a = votes.columns[t] / kTile;
        const double m = (a + estimate[t]) / 2;
        divergence += (a * std::log(a / m) + estimate[t] * std::log(estimate[t] / m)) / 2;
      }
      if (std::sqrt(divergence) >= kTau) {
        expect_lines(layer, marks, h, fewest(votes.columns, kGamma, 1),
                     fewest(votes.diagonals, kGamma, 1));
        continue;
      }
      ++trusted;
      for (size_t b = 0; b < layer.tiles(); ++b) {
        const auto kept = fewest(pooled(layer, h, b * kTile, (b + 1) * kTile), kGamma, 2);
        for (size_t t = 0; t < b; ++t) {
          EXPECT_EQ(marked(marks, layer, h, b, t), kept.contains(t)) << h << ", " << b << ", " << t;
        }
      }
    }
    EXPECT_GT(trusted, 0U) << "the test must see both kinds of heads";
    EXPECT_LT(trusted, layer.heads);
  }
}

/// Mean logits along antidiagonals, as the formula says.
double antidiagonal(const Layer& layer, size_t h, size_t first, size_t g, size_t j, size_t stride) {
  double sum = 0;
  for (size_t i = 0; i < stride; ++i) {
    const size_t query = first + g * stride + stride - 1 - i;
    const size_t key = j * stride + i;
    if (query < layer.rows && key < layer.rows) sum += layer.logit(h, query, key);
  }
  return layer.capped(sum / static_cast<double>(stride));
}

/// Every SIMD target with the precisions that it has.
std::vector<std::pair<int64_t, AttentionPrecision>> targets_and_precisions() {
  std::vector<std::pair<int64_t, AttentionPrecision>> all;
  for (const int64_t target : testing::simd_targets()) {
    const testing::ForcedSimdTarget forced(target);
    for (const auto precision : testing::kAttentionPrecisions) {
      if (supports(precision)) all.emplace_back(target, precision);
    }
  }
  return all;
}

TEST(SparsePatterns, AntidiagonalLogitsAreSumsOfTheLogits) {
  for (const size_t stride : {8, 16, 32}) {
    for (const size_t rows : {333, 512}) {
      const Layer layer = Layer{.heads = 3, .kv_heads = 1, .dim = 40, .rows = rows}.fill(6);
      const size_t first = 128;
      const size_t query_groups = (rows - first + stride - 1) / stride;
      const size_t key_groups = (rows + stride - 1) / stride;
      for (const auto& [target, precision] : targets_and_precisions()) {
        const testing::ForcedSimdTarget forced(target);
        std::vector<float> logits(layer.heads * query_groups * key_groups);
        const Heads<float> out(logits.data(), layer.heads, query_groups, key_groups);
        AttentionOptions options = layer.attention;
        options.precision = precision;
        antidiagonal_logits(layer.queries().slice_rows(first, rows - first), layer.keys(), first,
                            stride, options, out);
        const double error = precision == AttentionPrecision::kF32    ? 1e-4
                             : precision == AttentionPrecision::kBf16 ? 1e-2
                                                                      : 3e-2;
        for (size_t h = 0; h < layer.heads; ++h) {
          for (size_t g = 0; g < query_groups; ++g) {
            const size_t last = std::min(first + (g + 1) * stride, rows) - 1;
            for (size_t j = 0; j <= last / stride; ++j) {
              if (j == last / stride) continue;  // holds keys behind the queries
              ASSERT_NEAR(out.row(h, g)[j], antidiagonal(layer, h, first, g, j, stride), error)
                  << attention_precision_name(precision);
            }
          }
        }
      }
    }
  }
}

TEST(SparsePatterns, XAttentionKeepsTheFewestTilesByAntidiagonals) {
  constexpr size_t kStride = 16;
  const Layer layer = Layer{.rows = 640}.fill(7);
  const auto marks = marks_of(layer, "xattention:threshold=0.6", 256);
  for (size_t h = 0; h < layer.heads; ++h) {
    for (size_t b = 0; b < layer.tiles(); ++b) {
      std::vector<double> scores(b + 1, 0.0);
      for (size_t g = b * 4; g < (b + 1) * 4; ++g) {
        std::vector<double> weights;
        for (size_t j = 0; j <= g; ++j) {
          weights.push_back(std::exp(antidiagonal(layer, h, 0, g, j, kStride)));
        }
        const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
        for (size_t j = 0; j <= g; ++j) scores[j / 4] += weights[j] / total;
      }
      const auto kept = fewest(scores, 0.6, 0);
      for (size_t t = 0; t < b; ++t) {
        EXPECT_EQ(marked(marks, layer, h, b, t), kept.contains(t)) << h << ", " << b << ", " << t;
      }
    }
  }
}

/// Attention of some queries of a block, summed per tile.
std::vector<double> sampled(const Layer& layer, size_t h, size_t b, size_t samples) {
  std::vector<double> scores(layer.tiles(), 0.0);
  for (size_t s = 0; s < samples; ++s) {
    const size_t row = std::min(b * kTile + (2 * s + 1) * kTile / (2 * samples), layer.rows - 1);
    const std::vector<double> weights = layer.weights(h, row);
    for (size_t j = 0; j < weights.size(); ++j) scores[j / kTile] += weights[j];
  }
  return scores;
}

TEST(SparsePatterns, SampledAttentionIsThatOfSomeQueries) {
  for (const size_t rows : {64, 130, 500}) {
    for (const float softcap : {0.0F, 3.0F}) {
      const Layer layer =
          Layer{.heads = 6, .dim = 40, .rows = rows, .attention = {.softcap = softcap}}.fill(10);
      for (const size_t samples : {1, 3, 4, 64}) {
        for (const auto& [target, precision] : targets_and_precisions()) {
          const testing::ForcedSimdTarget forced(target);
          AttentionOptions options = layer.attention;
          options.precision = precision;
          const size_t first = rows > 200 ? 192 : 0;
          const size_t blocks = tiles_of(rows - first);
          std::vector<float> scores(layer.heads * blocks * layer.tiles(), 7.0F);  // used before
          const Heads<float> out(scores.data(), layer.heads, blocks, layer.tiles());
          sampled_attention(layer.queries().slice_rows(first, rows - first), layer.keys(), first,
                            samples, options, out);
          const double error = precision == AttentionPrecision::kF32 ? 1e-4 : 2e-2;
          for (size_t h = 0; h < layer.heads; ++h) {
            for (size_t b = 0; b < blocks; ++b) {
              const auto expected = sampled(layer, h, first / kTile + b, samples);
              for (size_t t = 0; t < layer.tiles(); ++t) {
                ASSERT_NEAR(out.row(h, b)[t], expected[t], error * static_cast<double>(samples))
                    << rows << " rows, head " << h << ", block " << b << ", tile " << t;
              }
            }
          }
        }
      }
    }
  }
}

TEST(SparsePatterns, SampledKeepsTheFewestTilesByASample) {
  const Layer layer = Layer{.rows = 620}.fill(11);
  const auto marks = marks_of(layer, "sampled:samples=3:threshold=0.7", 256);
  for (size_t h = 0; h < layer.heads; ++h) {
    for (size_t b = 0; b < layer.tiles(); ++b) {
      const auto kept = fewest(sampled(layer, h, b, 3), 0.7, 0);
      for (size_t t = 0; t < b; ++t) {
        EXPECT_EQ(marked(marks, layer, h, b, t), kept.contains(t)) << h << ", " << b << ", " << t;
      }
    }
  }
}

TEST(SparsePatterns, AFullShareKeepsAllTiles) {
  const Layer layer = Layer{.rows = 300}.fill(8);
  for (const char* text : {"xattention:threshold=1", "flexprefill:gamma=1", "a-shape:sinks=300",
                           "sampled:threshold=1"}) {
    const auto marks = marks_of(layer, text);
    for (size_t b = 0; b < layer.tiles(); ++b) {
      for (size_t t = 0; t < b; ++t) EXPECT_TRUE(marked(marks, layer, 1, b, t)) << text;
    }
  }
}

TEST(SparseOptionsTest, NamesValuesAndRefusals) {
  EXPECT_EQ(describe_sparse(parse_sparse("dense")), "dense");
  EXPECT_EQ(describe_sparse(parse_sparse("flexprefill:tau=0.2")),
            "flexprefill:gamma=0.95:tau=0.2:min_tokens=1024");
  EXPECT_EQ(describe_sparse(parse_sparse("xattention:stride=8")),
            "xattention:stride=8:threshold=0.9");
  const auto message = [](const char* text) {
    return testing::refusal(ErrorCode::kInvalidArgument, [&] { parse_sparse(text); });
  };
  EXPECT_EQ(message("striped"),
            "there is no sparse pattern \"striped\"; known are dense, a-shape, vertical-slash, "
            "flexprefill, xattention, sampled");
  EXPECT_NE(message("a-shape:gamma=1").find("reads sinks, local"), std::string::npos);
  EXPECT_NE(message("a-shape:sinks").find("has no value"), std::string::npos);
  EXPECT_NE(message("a-shape:sinks=x").find("whole number"), std::string::npos);
  EXPECT_NE(message("a-shape:local=-1").find("local is -1"), std::string::npos);
  EXPECT_NE(message("sampled:samples=65").find("samples is 65"), std::string::npos);
  EXPECT_NE(message("xattention:stride=12").find("8, 16 or 32"), std::string::npos);
  EXPECT_NE(message("xattention:threshold=0").find("threshold is 0"), std::string::npos);
  EXPECT_NE(message("xattention:threshold=nan").find("threshold is \"nan\""), std::string::npos);
  EXPECT_NE(message("dense:sinks=1").find("no options"), std::string::npos);
}

}  // namespace
}  // namespace restkv
