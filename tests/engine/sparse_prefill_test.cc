// Prompts read with tiles of their attention left out: what stays exact and what is reported.

#include "engine/sparse_prefill.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/streams.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

/// Few tokens for prompts that are short enough for tests.
constexpr const char* kPatterns[] = {
    "a-shape:sinks=64:local=64", "vertical-slash:vertical=64:slash=64",
    "flexprefill:gamma=0.5:min_tokens=64", "xattention:threshold=0.5", "sampled:threshold=0.5"};

class SparsePrefillTest : public ::testing::Test {
 protected:
  const Model& model(const testing::TinyModel& description = {}) {
    description.write(folder_.file("tiny.gguf"));
    return model_.emplace(folder_.file("tiny.gguf"));
  }

  testing::TemporaryFolder folder_;
  std::optional<Model> model_;
};

CacheRequest request_for(std::string_view method, int budget) {
  CacheRequest request;
  request.options = default_options(method);
  request.options.budget = budget;
  request.keep_selections = true;
  return request;
}

TEST_F(SparsePrefillTest, APatternThatKeepsAllChangesNothing) {
  Engine engine(model());
  const auto tokens = tokens_of(1100);
  std::vector<CacheRequest> dense{request_for("restkv", 100), request_for("h2o", 100)};
  const auto expected = engine.prefill(tokens, dense);
  for (const char* pattern :
       {"a-shape:sinks=2000", "xattention:threshold=1", "flexprefill:gamma=1"}) {
    SparseOptions options = parse_sparse(pattern);
    options.measure_recall = true;
    engine.set_sparse(options);
    std::vector<CacheRequest> sparse{request_for("restkv", 100), request_for("h2o", 100)};
    EXPECT_EQ(engine.prefill(tokens, sparse), expected) << pattern;
    for (size_t i = 0; i < dense.size(); ++i) {
      for (size_t layer = 0; layer < dense[i].selections.size(); ++layer) {
        EXPECT_EQ(sparse[i].selections[layer].keep, dense[i].selections[layer].keep) << pattern;
      }
    }
    EXPECT_EQ(engine.sparse_report().total().density(), 1.0) << pattern;
    EXPECT_NEAR(engine.sparse_report().total().recall(), 1.0, 1e-5) << pattern;
  }
}

TEST_F(SparsePrefillTest, EveryPatternWorksWithEveryMethod) {
  Engine engine(model());
  for (const char* pattern : kPatterns) {
    SCOPED_TRACE(pattern);
    engine.set_sparse(parse_sparse(pattern));
    std::vector<CacheRequest> requests;
    for (const Method& method : methods()) {
      if (method.needs_statistics) continue;
      requests.push_back(request_for(method.name, 90));
      requests.back().options.allocation = "uniform";
    }
    for (const float x : engine.prefill(tokens_of(900), requests, {}, RepeatPrompt())) {
      ASSERT_TRUE(std::isfinite(x));
    }
    for (const CacheRequest& request : requests) {
      for (const CachedHead& head : request.cache.heads(0)) {
        EXPECT_LE(head.count, request.options.method == "full" ? 900U : 90U);
        EXPECT_GE(head.count, 45U);
      }
    }
    const SparseReport& report = engine.sparse_report();
    // The last layer's attention is only computed for the last token, unless sums are wanted.
    EXPECT_GT(report.layer(0).visible_tiles, report.layer(0).kept_tiles);
    EXPECT_GT(report.layer(0).density(), 0.2);
    EXPECT_GT(report.attention_seconds, 0);
    EXPECT_GT(report.search_seconds, 0);
  }
}

TEST_F(SparsePrefillTest, LayersWithSlidingWindowsStayDense) {
  testing::TinyModel description;
  description.architecture = "gemma3";
  description.window = 100;
  description.window_pattern = 2;
  description.layers = 4;
  Engine engine(model(description));
  engine.set_sparse(parse_sparse(kPatterns[0]));
  CacheRequest request = request_for("h2o", 100);
  engine.prefill(tokens_of(700), {&request, 1});
  size_t sparse = 0;
  for (size_t layer = 0; layer < 4; ++layer) {
    const bool has_window = model_->config().windows[layer] > 0;
    EXPECT_EQ(engine.sparse_report().layer(layer).visible_tiles == 0, has_window) << layer;
    sparse += has_window ? 0 : 1;
  }
  EXPECT_GT(sparse, 0U);
  EXPECT_LT(sparse, 4U);
}

TEST_F(SparsePrefillTest, StreamsSeeTheirCacheAndKeepTheirBudget) {
  model();
  for (const char* pattern : kPatterns) {
    for (const char* allocation : {"uniform", "ada"}) {
      SCOPED_TRACE(std::string(pattern) + ", " + allocation);
      SessionOptions options;
      options.compression = default_options("snapkv");
      options.compression.budget = 150;
      options.compression.allocation = allocation;
      options.chunk = 400;
      options.sparse = parse_sparse(pattern);
      options.sparse.measure_recall = true;
      Session session(*model_, options);
      for (const size_t turn : {1000, 300, 1, 70}) {
        for (const float x : session.append(tokens_of(turn))) ASSERT_TRUE(std::isfinite(x));
      }
      size_t rows = 0;
      for (size_t layer = 0; layer < 2; ++layer) {
        for (const CachedHead& head : session.cache().heads(layer)) rows += head.count;
      }
      EXPECT_LE(rows, 150 * 4U);
      EXPECT_LT(session.sparse_report().total().density(), 1.0);
      EXPECT_GT(session.sparse_report().total().sampled, 0U);
    }
  }
  // A pattern that keeps nothing of its own still sees all of the cache: two turns equal one
  // prompt, where the first is within the cache and the second within its dense end.
  SessionOptions options;
  options.compression = default_options("full");
  options.kv_type = KvType::kF32;
  options.sparse = parse_sparse("a-shape:sinks=0:local=0");
  const auto text = tokens_of(300);
  Session turns(*model_, options);
  turns.append(std::span(text).first(128));
  const auto logits = turns.append(std::span(text).subspan(128));
  options.sparse = {};
  Session dense(*model_, options);
  const auto expected = dense.append(text);
  for (size_t i = 0; i < logits.size(); ++i) ASSERT_NEAR(logits[i], expected[i], 1e-4);
}

TEST_F(SparsePrefillTest, RecallIsTheAttentionInKeptTiles) {
  const ModelConfig& c = model().config();
  constexpr size_t kRows = 500;
  std::mt19937 rng(3);
  std::normal_distribution<float> normal;
  std::vector<float> q(c.query_heads * kRows * c.key_dim);
  std::vector<float> k(c.kv_heads * kRows * c.key_dim);
  for (auto* x : {&q, &k}) std::generate(x->begin(), x->end(), [&] { return normal(rng); });
  const Heads<const float> queries(q.data(), c.query_heads, kRows, c.key_dim);
  const Heads<const float> keys(k.data(), c.kv_heads, kRows, c.key_dim);

  LayerKv kv;
  kv.begin(c, nullptr, 0, kRows, 0);
  kv.store(keys, keys, 0);
  SparsePrefill sparse(c);
  SparseOptions options = parse_sparse("a-shape:sinks=64:local=64");
  options.measure_recall = true;
  sparse.set(options);
  ASSERT_TRUE(sparse.begin_layer(0, {}, kRows, 32, kv));
  std::vector<float> out(q.size());
  const Heads<float> all_out(out.data(), c.query_heads, kRows, c.key_dim);
  for (const auto& [first, rows] : {std::pair<size_t, size_t>{0, 192}, {192, kRows - 192}}) {
    const Heads<const float> block = queries.slice_rows(first, rows);
    const Matrix<float> lse = sparse.begin_block(block, kv, first, {});
    kv.attend(block, first, first + rows, {}, all_out.slice_rows(first, rows), lse);
    sparse.end_block(block, kv, first, lse);
  }

  // Of 8 blocks the first 6 lie before the last 64 tokens' own block. One query of each is sampled.
  constexpr size_t kSparseBlocks = 6;
  for (size_t h = 0; h < c.query_heads; ++h) {
    double sum = 0;
    for (size_t block = 0; block < kSparseBlocks; ++block) {
      const size_t row = block * kMaskTile + block * 29 % kMaskTile;
      double all = 0;
      double kept = 0;
      for (size_t j = 0; j <= row; ++j) {
        double z = 0;
        for (size_t x = 0; x < c.key_dim; ++x) {
          z += double{queries.row(h, row)[x]} * keys.row(h * c.kv_heads / c.query_heads, j)[x];
        }
        const double weight = std::exp(z / std::sqrt(static_cast<double>(c.key_dim)));
        const size_t tile = j / kMaskTile;
        all += weight;
        if (tile == 0 || tile + 1 >= block) kept += weight;
      }
      sum += kept / all;
    }
    const SparseReport::Head& head = sparse.report().head(0, h);
    EXPECT_EQ(head.sampled, kSparseBlocks);
    EXPECT_NEAR(head.recall(), sum / kSparseBlocks, 1e-4);
    // 1 + 2 + 3 + 3 + 3 + 3 tiles, then two dense blocks, of 36.
    EXPECT_EQ(head.visible_tiles, 36U);
    EXPECT_EQ(head.kept_tiles, 15U + 7U + 8U);
  }
  // The last queries are dense.
  std::vector<float> exact(q.size());
  prefill_attention(queries, keys, keys, 0, {}, {exact.data(), c.query_heads, kRows, c.key_dim});
  for (size_t h = 0; h < c.query_heads; ++h) {
    for (size_t i = kSparseBlocks * kMaskTile; i < kRows; ++i) {
      for (size_t x = 0; x < c.key_dim; ++x) {
        const size_t at = (h * kRows + i) * c.key_dim + x;
        EXPECT_EQ(out[at], exact[at]);
      }
    }
  }
}

TEST_F(SparsePrefillTest, RefusesWhatItCannotUse) {
  Engine engine(model());
  SparseOptions options;
  options.pattern = "stripes";
  EXPECT_THROW(engine.set_sparse(options), Error);
  options.pattern = "xattention";
  options.stride = 7;
  EXPECT_THROW(engine.set_sparse(options), Error);
}

}  // namespace
}  // namespace restkv
