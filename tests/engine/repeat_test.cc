// The repeat pass: against the published code running a tiny Llama (the `kvzip*` golden cases), and
// against our own forward pass over a full cache.

#include "restkv/repeat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/prefill.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "restkv/stages.h"
#include "support/golden.h"
#include "support/golden_model.h"
#include "support/refusal.h"
#include "support/repeat_sinks.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using testing::GoldenCase;
using testing::GoldenModel;
using ::testing::HasSubstr;
using testing::refusal_if_any;
using testing::ScoreSink;
using testing::text;

bool belongs_to(const GoldenCase& golden, const std::string& kind) {
  const std::string family = golden.family();
  return (family == "kvzip" || family == "kvzip_plus") &&
         golden.name().starts_with(family + "." + kind + ".");
}

RepeatPrompt golden_prompt(const GoldenCase& golden) {
  return {.first = golden.ints("instr_first"),
          .later = golden.ints("instr_next"),
          .answer = golden.ints("suffix"),
          .prefix = std::vector<int32_t>(
              golden.ints("ids").begin(),
              golden.ints("ids").begin() + golden.params().at("prefix_len").get<std::ptrdiff_t>())};
}

void expect_feeds(const GoldenCase& golden) {
  const RepeatPrompt prompt = golden_prompt(golden);
  const auto feeds =
      repeat_feeds(golden.ints("ids"), {golden.params().at("chunk_size").get<size_t>()}, prompt);
  ASSERT_EQ(feeds.size(), golden.ints("fed_len").size());
  auto next = golden.ints("fed_flat").begin();
  for (size_t i = 0; i < feeds.size(); ++i) {
    const std::vector<int32_t> expected(next, next + golden.ints("fed_len")[i]);
    EXPECT_EQ(feeds[i].tokens, expected);
    EXPECT_EQ(feeds[i].begin, static_cast<size_t>(golden.ints("chunk_start")[i]));
    EXPECT_EQ(feeds[i].end, static_cast<size_t>(golden.ints("chunk_end")[i]));
    EXPECT_LE(expected.size(),
              longest_feed(golden.ints("ids").size(),
                           golden.params().at("chunk_size").get<size_t>(), prompt));
    next += golden.ints("fed_len")[i];
  }
}

TEST(RepeatFeedsTest, EqualTheReferences) {
  testing::GoldenTally tally;
  for (GoldenCase& golden : testing::golden_cases()) {
    if (!belongs_to(golden, "chunks") && !belongs_to(golden, "llama")) continue;
    SCOPED_TRACE(golden.name());
    golden.load();
    expect_feeds(golden);
    tally.compared(golden.method());
  }
  tally.finish();
}

TEST(RepeatFeedsTest, ThereAreNoneOfAPrefixAlone) {
  const std::vector<int32_t> tokens(20, 7);
  RepeatPrompt prompt{.first = {}, .later = {}, .answer = {}, .prefix = tokens};
  EXPECT_TRUE(repeat_feeds(tokens, {8}, prompt).empty());
  EXPECT_EQ(repeat_feeds(tokens, {8}, prompt, false).size(), 3U);
  prompt.prefix.push_back(7);
  EXPECT_TRUE(repeat_feeds(tokens, {8}, prompt).empty());
  prompt.prefix.resize(19);
  EXPECT_EQ(repeat_feeds(tokens, {8}, prompt).size(), 1U);
  prompt.prefix[4] = 8;
  EXPECT_EQ(repeat_feeds(tokens, {8}, prompt).at(0).begin, 4U);
}

std::vector<LayerScores> scores_of(const Model& model, const CompressionOptions& options,
                                   std::span<const int32_t> tokens, const RepeatPrompt& prompt) {
  Workspace workspace(model);
  SparsePrefill dense(model.config());
  ScoreSink sink(model, options, prompt);
  Prefill(model, workspace, tokens, sink, dense).run({});
  return std::move(sink.scores);
}

void expect_scores(const GoldenCase& golden, const std::vector<LayerScores>& ours, size_t sinks) {
  const auto& shape = golden.shape("scores");
  const std::vector<float>& expected = golden.floats("scores");
  float largest = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (i % shape.at(2) >= sinks) largest = std::max(largest, expected[i]);
  }
  for (size_t l = 0; l < shape.at(0); ++l) {
    for (size_t h = 0; h < shape.at(1); ++h) {
      for (size_t n = sinks; n < shape.at(2); ++n) {
        ASSERT_NEAR(ours[l].rows().row(h)[n], expected[(l * shape.at(1) + h) * shape.at(2) + n],
                    1e-4F * largest)
            << "layer " << l << ", head " << h << ", position " << n;
      }
    }
  }
}

TEST(RepeatPassTest, ScoresAndKeptPositionsEqualTheReference) {
  testing::GoldenTally tally;
  std::map<std::filesystem::path, GoldenModel> models;  // by config.json
  for (GoldenCase& golden : testing::golden_cases()) {
    if (!belongs_to(golden, "llama")) continue;
    SCOPED_TRACE(golden.name());
    golden.load();
    const Model& model = *models.try_emplace(golden.input("config.json"), golden).first->second;
    const Json& params = golden.params();
    const auto& keep_len = golden.ints("keep_len");
    const auto& tokens = golden.ints("ids");
    CacheRequest request;
    CompressionOptions& options = request.options;
    options = default_options(params.at("plus").get<bool>() ? "kvzip-plus" : "kvzip");
    options.sinks = params.at("n_sink").get<int>();
    options.own["repeat_chunk"] = params.at("chunk_size").get<int>();
    options.own["repeat_sees"] = std::string("all");
    options.own["keep_prefix"] = false;  // the reference gives it no scores
    if (params.at("layerwise").get<bool>()) options.allocation = "ada";
    const size_t kept = golden.ints("keep_flat").size();
    options.budget = static_cast<int>(kept / keep_len.size());
    ASSERT_EQ(kept % keep_len.size(), 0U);
    expect_scores(golden, scores_of(model, options, tokens, golden_prompt(golden)),
                  static_cast<size_t>(options.sinks));

    request.keep_selections = true;
    Engine engine(model);
    engine.prefill(tokens, {&request, 1}, {}, golden_prompt(golden));
    auto next = golden.ints("keep_flat").begin();
    for (size_t i = 0; i < keep_len.size(); ++i) {
      const std::vector<int32_t> expected(next, next + keep_len[i]);
      next += keep_len[i];
      const size_t layer = i / model.config().kv_heads;
      const size_t head = i % model.config().kv_heads;
      EXPECT_EQ(request.selections[layer].keep[head], expected)
          << "layer " << layer << ", head " << head;
      EXPECT_TRUE(std::ranges::equal(request.cache.positions(layer, head), expected));
    }
    tally.compared(golden.method());
  }
  tally.finish();
}

CacheRequest request_for(const CompressionOptions& options, KvType type = KvType::kF16) {
  CacheRequest request;
  request.options = options;
  request.kv_type = type;
  return request;
}

/// For texts with the seed `seed`.
RepeatPrompt some_prompt(size_t prefix, size_t seed) {
  return {
      .first = text(5, 1), .later = text(7, 2), .answer = text(3, 3), .prefix = text(prefix, seed)};
}

/// Queries of all tokens and keys of all rows, of every layer.
class RecordingSink : public LayerSink {
 public:
  explicit RecordingSink(const KvCache& cache) : cache_(cache) {
    all_queries_.own["acausal"] = true;
    all_queries_.budget = 1 << 20;
  }
  [[nodiscard]] std::vector<const CompressionOptions*> observed_for() const override {
    return {&all_queries_};
  }
  [[nodiscard]] const KvCache* cache() const override { return &cache_; }
  void take(size_t layer, LayerKv& kv, LayerObserver& observer) override {
    const auto copy = [](const Heads<const float>& x) {
      std::vector<float> rows;
      for (size_t h = 0; h < x.heads; ++h) {
        for (size_t r = 0; r < x.rows; ++r) {
          rows.insert(rows.end(), x.row(h, r), x.row(h, r) + x.dim);
        }
      }
      return rows;
    };
    keys.push_back(copy(kv.keys()));
    queries.push_back(copy(observer.observation(0, layer).queries));
  }

  std::vector<std::vector<float>> queries, keys;  ///< [layer]: [head, row, d]

 private:
  const KvCache& cache_;
  CompressionOptions all_queries_ = default_options("h2o");
};

/// A cache with some rows of the layers without a window; the others as they are.
KvCache some_rows(const ModelConfig& c, const KvCache& cache, const std::vector<int32_t>& rows) {
  KvCache some(c.layers, c.kv_heads, c.key_dim, c.value_dim, KvType::kF32);
  for (size_t layer = 0; layer < c.layers; ++layer) {
    const size_t n = cache.positions(layer, 0).size();
    std::vector<float> keys(c.kv_heads * n * c.key_dim);
    std::vector<float> values(c.kv_heads * n * c.value_dim);
    std::vector<std::vector<int32_t>> positions;
    std::vector<int32_t> all(n);
    std::iota(all.begin(), all.end(), 0);
    for (size_t h = 0; h < c.kv_heads; ++h) {
      cache.read(layer, h, {&keys[h * n * c.key_dim], n, c.key_dim},
                 {&values[h * n * c.value_dim], n, c.value_dim});
      const auto of_head = cache.positions(layer, h);
      positions.emplace_back(of_head.begin(), of_head.end());
    }
    const bool window = c.windows[layer] > 0;
    some.gather(layer, {keys.data(), c.kv_heads, n, c.key_dim},
                {values.data(), c.kv_heads, n, c.value_dim},
                {.keep = std::vector(c.kv_heads, window ? all : rows)}, positions);
    if (window) some.limit(layer, c.windows[layer]);
  }
  some.next_position = cache.next_position;
  return some;
}

/// What a narrow feed sees of n tokens: tiles of the first token, of the chunk, and the last one if
/// it is not full.
std::vector<int32_t> rows_in_sight(const RepeatFeed& feed, size_t n) {
  std::vector<int32_t> rows;
  for (size_t i = 0; i < n; ++i) {
    const size_t tile = i / kMaskTile;
    if (tile == 0 || (tile >= feed.begin / kMaskTile && tile <= (feed.end - 1) / kMaskTile) ||
        tile == n / kMaskTile) {
      rows.push_back(static_cast<int32_t>(i));
    }
  }
  return rows;
}

/// KVzip's scores as the paper has them: every feed goes through the whole model on the full cache,
/// and each layer's attention is computed in float64. [layer][KV head][position]; -1: not repeated.
/// With `narrow`, the cache holds only what the feed sees, and all of it takes part.
std::vector<std::vector<std::vector<double>>> slow_scores(const Model& model,
                                                          std::span<const int32_t> tokens,
                                                          const RepeatPrompt& prompt, size_t chunk,
                                                          size_t sinks, bool narrow) {
  const ModelConfig& c = model.config();
  Engine engine(model);
  CacheRequest full = request_for(default_options("full"), KvType::kF32);
  engine.prefill(tokens, {&full, 1});
  const size_t n = tokens.size();
  std::vector<std::vector<std::vector<double>>> scores(
      c.layers, std::vector(c.kv_heads, std::vector<double>(n, -1.0)));
  for (const RepeatFeed& feed : repeat_feeds(tokens, {chunk}, prompt)) {
    Workspace workspace(model);
    SparsePrefill dense(c);
    std::vector<int32_t> rows(n);
    std::iota(rows.begin(), rows.end(), 0);
    if (narrow) rows = rows_in_sight(feed, n);
    const KvCache seen = some_rows(c, full.cache, rows);
    RecordingSink sink(seen);
    Prefill(model, workspace, feed.tokens, sink, dense).run({});
    const size_t m = feed.tokens.size();
    const size_t group = c.query_heads / c.kv_heads;
    for (size_t layer = 0; layer < c.layers; ++layer) {
      if (c.windows[layer] > 0) continue;
      for (size_t h = 0; h < c.query_heads; ++h) {
        for (size_t t = 0; t < m; ++t) {
          const float* q = &sink.queries[layer][(h * m + t) * c.key_dim];
          const auto weight = [&](size_t row) {
            const float* k = &sink.keys[layer][(h / group * (rows.size() + m) + row) * c.key_dim];
            double dot = 0;
            for (size_t i = 0; i < c.key_dim; ++i) dot += double{q[i]} * double{k[i]};
            return std::exp(dot * double{c.attention_scale});
          };
          double sum = 0;
          const auto repeated = [&](size_t j) { return j >= feed.begin && j < feed.end; };
          for (size_t i = 0; i < rows.size(); ++i) {
            const auto j = static_cast<size_t>(rows[i]);
            if (narrow || j < std::min(sinks, feed.begin) || repeated(j)) sum += weight(i);
          }
          for (size_t j = 0; j <= t; ++j) sum += weight(rows.size() + j);
          for (size_t i = 0; i < rows.size(); ++i) {
            const auto j = static_cast<size_t>(rows[i]);
            if (!repeated(j)) continue;
            double& score = scores[layer][h / group][j];
            score = std::max(score, weight(i) / sum);
          }
        }
      }
    }
  }
  return scores;
}

/// Layers with and without a sliding window.
class RandomRepeatTest : public ::testing::Test {
 protected:
  RandomRepeatTest() {
    testing::TinyModel tiny;
    tiny.architecture = "gemma3";
    tiny.layers = 5;  // the last one has a window
    tiny.window = 30;
    tiny.window_pattern = 2;
    tiny.context = 2048;
    tiny.write(folder_.file("tiny.gguf"));
    model_.emplace(folder_.file("tiny.gguf"));
  }

  static CompressionOptions options(const char* method, int budget, int chunk) {
    CompressionOptions result = default_options(method);
    result.budget = budget;
    result.own["repeat_chunk"] = chunk;
    return result;
  }
  static SessionOptions session(const char* method, int budget, int chunk, size_t seed) {
    SessionOptions result;
    result.compression = options(method, budget, chunk);
    result.repeat = some_prompt(6, seed);
    return result;
  }

  testing::TemporaryFolder folder_;
  std::optional<Model> model_;
};

TEST_F(RandomRepeatTest, ScoresEqualThoseOfAFullCache) {
  const std::vector<int32_t> tokens = text(1300, 4);  // several blocks, and feeds of several blocks
  for (const auto& [chunk, narrow] :
       {std::pair(600, false), {97, false}, {600, true}, {97, true}}) {
    CompressionOptions kvzip = options("kvzip", 200, chunk);
    kvzip.own["repeat_sees"] = std::string(narrow ? "chunk" : "all");
    const RepeatPrompt prompt = some_prompt(6, 4);
    const auto ours = scores_of(*model_, kvzip, tokens, prompt);
    const auto slow = slow_scores(*model_, tokens, prompt, static_cast<size_t>(chunk), 4, narrow);
    size_t layer = 0;
    for (size_t l = 0; l < model_->config().layers; ++l) {
      if (model_->config().windows[l] > 0) continue;
      for (size_t h = 0; h < ours[layer].heads; ++h) {
        for (size_t n = 6; n < tokens.size(); ++n) {
          ASSERT_NEAR(ours[layer].rows().row(h)[n], slow[l][h][n], 2e-4 * slow[l][h][n] + 1e-7)
              << "chunk " << chunk << (narrow ? " alone" : "") << ", layer " << l << ", head " << h
              << ", position " << n;
        }
      }
      ++layer;
    }
    EXPECT_EQ(layer, model_->config().global_layers());
  }
}

TEST_F(RandomRepeatTest, SinksAndPrefixStay) {
  const std::vector<int32_t> tokens = text(300, 5);
  Engine engine(*model_);
  for (const char* method : {"kvzip", "kvzip-plus", "restkv-repeat"}) {
    CacheRequest request = request_for(options(method, 20, 128));
    engine.prefill(tokens, {&request, 1}, {}, some_prompt(10, 5));
    size_t kept = 0;
    for (size_t layer = 0; layer < request.cache.layers(); ++layer) {
      if (model_->config().windows[layer] > 0) continue;
      for (size_t h = 0; h < model_->config().kv_heads; ++h) {
        const auto positions = request.cache.positions(layer, h);
        ASSERT_GE(positions.size(), 10U);
        for (int32_t i = 0; i < 10; ++i) EXPECT_EQ(positions[static_cast<size_t>(i)], i);
        kept += positions.size();
      }
    }
    EXPECT_EQ(kept, 20 * model_->config().kv_heads * model_->config().global_layers());
  }
}

TEST_F(RandomRepeatTest, MayPauseAfterEveryBlock) {
  const Engine engine(*model_);
  const std::vector<int32_t> tokens = text(700, 6);
  const SessionOptions options = session("kvzip", 100, 600, 6);
  Session whole(engine, options);
  whole.append(tokens);

  Session paused(engine, options);
  Session other(engine, session("kvzip", 50, 64, 7));
  other.append(text(90, 7));
  Session::Prompt prompt = paused.begin(tokens);
  size_t steps = 1;
  double done = 0;
  for (; prompt.step(); ++steps) {
    EXPECT_GT(prompt.done(), done);
    done = prompt.done();
    other.append(static_cast<int32_t>(steps % 256));
  }
  // The prompt has 2 blocks, and its feeds (prefix 6) have 8 + 600 and 7 + 8 + 3 + 94 tokens. The
  // last layer has a window: no feeds.
  EXPECT_EQ(steps, 5 * 2 + 4 * (2 + 1));
  EXPECT_TRUE(std::ranges::equal(whole.logits(), paused.logits()));
  for (size_t layer = 0; layer < whole.cache().layers(); ++layer) {
    for (size_t h = 0; h < model_->config().kv_heads; ++h) {
      EXPECT_TRUE(std::ranges::equal(whole.cache().positions(layer, h),
                                     paused.cache().positions(layer, h)));
    }
  }
}

TEST_F(RandomRepeatTest, ChangesNothingButWhatIsKept) {
  const std::vector<int32_t> tokens = text(500, 8);
  Engine engine(*model_);
  CacheRequest full = request_for(default_options("full"));
  std::vector<CacheRequest> both(2);
  both[0].options = default_options("full");
  both[1].options = options("kvzip", 64, 200);
  const auto plain = engine.prefill(tokens, {&full, 1});
  const auto repeated = engine.prefill(tokens, both, {}, some_prompt(6, 8));
  EXPECT_EQ(plain, repeated);
  for (size_t i = 0; i < 5; ++i) {
    const auto a = engine.decode(static_cast<int32_t>(i), full.cache);
    const std::vector<float> expected(a.begin(), a.end());
    EXPECT_TRUE(
        std::ranges::equal(expected, engine.decode(static_cast<int32_t>(i), both[0].cache)));
  }
}

TEST_F(RandomRepeatTest, LaterTurnsAreRepeatedAndAnswersStay) {
  const Engine engine(*model_);
  Session session_(engine, session("kvzip", 60, 128, 9));
  session_.append(text(300, 9));
  for (int32_t i = 0; i < 12; ++i) session_.append(i);  // an answer
  session_.compress();
  const ModelConfig& c = model_->config();
  const auto kept = [&] {
    size_t rows = 0;
    for (size_t layer = 0; layer < c.layers; ++layer) {
      for (size_t h = 0; h < c.kv_heads && c.windows[layer] == 0; ++h) {
        rows += session_.cache().positions(layer, h).size();
      }
    }
    return rows;
  };
  const size_t budget = 60 * c.kv_heads * c.global_layers();
  EXPECT_EQ(kept(), budget);
  for (size_t layer = 0; layer < c.layers; ++layer) {
    if (c.windows[layer] > 0) continue;
    for (size_t h = 0; h < c.kv_heads; ++h) {
      const auto positions = session_.cache().positions(layer, h);
      ASSERT_GE(positions.size(), 12U + 6U);
      EXPECT_EQ(positions[positions.size() - 12], 300);  // all of the answer
      EXPECT_EQ(positions[5], 5);                        // and the prefix
    }
  }
  Session copy = session_.fork();
  session_.save(folder_.file("turn.rkv"));
  Session loaded = Session::load(engine, folder_.file("turn.rkv"));
  EXPECT_EQ(loaded.options().repeat->first, session_.options().repeat->first);
  session_.append(text(50, 10));
  copy.append(text(50, 10));
  loaded.append(text(50, 10));
  EXPECT_EQ(kept(), budget);
  EXPECT_TRUE(std::ranges::equal(session_.logits(), copy.logits()));
  EXPECT_TRUE(std::ranges::equal(session_.logits(), loaded.logits()));
  for (size_t layer = 0; layer < c.layers; ++layer) {
    for (size_t h = 0; h < c.kv_heads; ++h) {
      EXPECT_TRUE(std::ranges::equal(session_.cache().positions(layer, h),
                                     loaded.cache().positions(layer, h)));
    }
  }
}

TEST_F(RandomRepeatTest, WhatIsReservedNeedsNoRoomToBeRepeated) {
  Engine engine(*model_);
  Session document(engine, session("kvzip", 100, 600, 6));
  document.append(text(1300, 6));
  const std::vector<int32_t> question = text(400, 7);
  Session cut = document.fork();
  EXPECT_THAT(refusal_if_any([&] { cut.append(question); }), HasSubstr("repeat a part"));
  document.reserve(question.size());
  document.append(question);
  size_t rows = 0;
  size_t heads = 0;
  const ModelConfig& c = model_->config();
  for (size_t layer = 0; layer < c.layers; ++layer) {
    if (c.windows[layer] > 0) continue;
    for (size_t h = 0; h < c.kv_heads; ++h, ++heads) {
      rows += document.cache().positions(layer, h).size();
    }
  }
  EXPECT_EQ(rows, heads * (100 + question.size()));
}

TEST_F(RandomRepeatTest, IsRefusedWhereItCannotWork) {
  Engine engine(*model_);
  CacheRequest request = request_for(options("kvzip", 64, 200));
  const std::vector<int32_t> tokens = text(300, 1);
  const auto prefill = [&](const std::optional<RepeatPrompt>& prompt) {
    return refusal_if_any([&] { engine.prefill(tokens, {&request, 1}, {}, prompt); });
  };
  EXPECT_THAT(prefill(std::nullopt), HasSubstr("kvzip lets the model repeat the prompt"));
  EXPECT_THAT(prefill(some_prompt(64, 1)),
              HasSubstr("budget 64 leaves no room beside the 64 tokens"));
  SessionOptions without = session("kvzip", 64, 200, 1);
  without.repeat.reset();
  EXPECT_THAT(refusal_if_any([&] { Session(engine, without); }), HasSubstr("RepeatPrompt"));
  Session session_(engine, session("kvzip", 64, 1000, 1));
  EXPECT_THAT(refusal_if_any([&] { session_.append(text(1100, 1)); }), HasSubstr("repeat_chunk"));
  EXPECT_EQ(session_.tokens(), 0U);
  EXPECT_THAT(refusal_if_any([&] { session_.set_budget(6); }), HasSubstr("6 tokens in front"));
  EXPECT_THAT(refusal_if_any([&] { validate(options("kvzip", 64, 7)); }),
              HasSubstr("repeat_chunk is 7"));

  std::vector<CacheRequest> two(2);
  two[0].options = options("kvzip", 64, 200);
  two[1].options = options("kvzip-plus", 64, 100);
  EXPECT_THAT(refusal_if_any([&] { engine.prefill(tokens, two, {}, some_prompt(0, 1)); }),
              HasSubstr("200 and 100 tokens at a time"));
}

/// What a method from outside has watched of each layer, [layer]: [query_heads, rows].
std::vector<std::vector<float>>& seen_by_watcher() {
  static std::vector<std::vector<float>> seen;
  return seen;
}

/// Writes about each token of the prompt: the first channel of its query, the square of what the
/// attention reads and gives out, and the denominator.
Method watcher() {
  Method method;
  method.name = "test-watcher";
  method.paper = "this test";
  method.defaults.method = method.name;
  method.check = [](const CompressionOptions&) {};
  method.watched_tokens = [](const CompressionOptions&) { return WatchedTokens::kContext; };
  method.watches_outputs = [](const CompressionOptions&) { return true; };
  method.watch = [](const BlockObservation& block, const CompressionOptions&,
                    Matrix<float> watched) {
    EXPECT_EQ(block.end - block.begin, block.queries.rows);
    EXPECT_EQ(block.keys.rows, block.end);
    for (size_t h = 0; h < block.queries.heads; ++h) {
      for (size_t t = 0; t < block.queries.rows; ++t) {
        const auto square = [](const float* x, size_t size) {
          float sum = 0;
          for (size_t i = 0; i < size; ++i) sum += x[i] * x[i];
          return sum;
        };
        const size_t kv_head = h * block.keys.heads / block.queries.heads;
        EXPECT_EQ(block.own_keys.row(kv_head, t)[0], block.keys.row(kv_head, block.begin + t)[0]);
        watched.row(h)[block.begin + t] =
            block.queries.row(h, t)[0] + square(block.inputs.row(t), block.inputs.cols) +
            square(block.outputs.row(h, t), block.outputs.dim) + block.lse.row(h)[t];
      }
    }
  };
  method.score = [](const LayerObservation& layer, const CompressionOptions&, SelectionTrace*) {
    std::vector<float>& seen = seen_by_watcher().emplace_back();
    for (size_t h = 0; h < layer.watched.rows; ++h) {
      const auto row = layer.watched.row_span(h);
      seen.insert(seen.end(), row.begin(), row.end());
    }
    return LayerScores(layer.keys.heads, layer.keys.rows);
  };
  return method;
}

TEST_F(RandomRepeatTest, AMethodMayWatchThePromptItself) {
  Method wrong = watcher();
  wrong.watch = nullptr;
  EXPECT_THAT(refusal_if_any([&] { register_method(wrong); }), HasSubstr("belong together"));
  register_method(watcher());
  const Engine engine(*model_);
  const std::vector<int32_t> tokens = text(700, 11);
  SessionOptions options;
  options.compression = default_options("test-watcher");
  options.compression.budget = 690;
  options.kv_type = KvType::kF32;
  Session once(engine, options);
  once.append(tokens);
  const auto expected = std::exchange(seen_by_watcher(), {});
  Session parts(engine, options);
  parts.append(std::span(tokens).first(600));
  EXPECT_TRUE(seen_by_watcher().empty()) << "nothing is scored before the budget is passed";
  parts.append(std::span(tokens).subspan(600));
  const auto& actual = seen_by_watcher();
  ASSERT_EQ(expected.size(), model_->config().global_layers());
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t layer = 0; layer < expected.size(); ++layer) {
    ASSERT_EQ(actual[layer].size(), model_->config().query_heads * tokens.size());
    ASSERT_EQ(actual[layer].size(), expected[layer].size());
    for (size_t i = 0; i < actual[layer].size(); ++i) {
      ASSERT_NEAR(actual[layer][i], expected[layer][i], 1e-3F + 1e-4F * expected[layer][i]);
    }
  }
}

}  // namespace
}  // namespace restkv
