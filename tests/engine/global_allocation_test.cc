// A budget over all layers: what a layer-major prefill keeps by cutting again and again equals the
// best of all scores at once.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "engine/prefill.h"
#include "restkv/engine.h"
#include "restkv/session.h"
#include "restkv/stages.h"
#include "support/refusal.h"
#include "support/repeat_sinks.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::testing::HasSubstr;
using testing::refusal_if_any;
using testing::text;

CacheRequest request_for(const CompressionOptions& options, KvType type = KvType::kF16) {
  CacheRequest request;
  request.options = options;
  request.kv_type = type;
  return request;
}

const RepeatPrompt kPrompt{.first = {1, 2, 3}, .later = {4, 5}, .answer = {6}, .prefix = {}};

/// Scores and rows of every layer, nothing cut.
class WholeSink : public LayerSink {
 public:
  explicit WholeSink(const CompressionOptions& options) : options_(options) {}

  [[nodiscard]] std::vector<const CompressionOptions*> observed_for() const override {
    return {&options_};
  }
  [[nodiscard]] std::vector<RepeatFeed> feeds(std::span<const int32_t> tokens) const override {
    return repeat_feeds(tokens, repeat_pass(options_), kPrompt);
  }
  void take(size_t layer, LayerKv& kv, LayerObserver& observer) override {
    LayerObservation observation = observer.observation(0, layer);
    observation.keys = kv.keys();
    observation.values = kv.values();
    scores.push_back(score_tokens(observation, options_));
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
    values.push_back(copy(kv.values()));
  }

  std::vector<LayerScores> scores;
  std::vector<std::vector<float>> keys, values;

 private:
  const CompressionOptions& options_;
};

/// Positions that stay, [layer][head], by sorting all scores.
std::vector<Selection> best_of_all(const std::vector<LayerScores>& layers, size_t n,
                                   size_t budget) {
  std::vector<std::tuple<float, size_t, size_t, size_t>> all;  // smaller is better
  size_t places = 0;
  std::vector<Selection> kept;
  for (size_t l = 0; l < layers.size(); ++l) {
    kept.emplace_back().keep.resize(layers[l].heads);
    places += layers[l].heads * (budget - (n - layers[l].candidates));
    for (size_t h = 0; h < layers[l].heads; ++h) {
      const auto row = layers[l].rows().row_span(h);
      for (size_t i = 0; i < row.size(); ++i) all.emplace_back(-row[i], l, h, i);
      for (size_t i = row.size(); i < n; ++i) {
        kept[l].keep[h].push_back(static_cast<int32_t>(i));
      }
    }
  }
  std::ranges::sort(all);
  for (size_t i = 0; i < places; ++i) {
    const auto& [score, l, h, position] = all[i];
    kept[l].keep[h].push_back(static_cast<int32_t>(position));
  }
  for (Selection& layer : kept) {
    for (auto& head : layer.keep) std::ranges::sort(head);
  }
  return kept;
}

class GlobalAllocationTest : public ::testing::Test {
 protected:
  GlobalAllocationTest() {
    testing::TinyModel tiny;
    tiny.layers = 6;
    tiny.write(folder_.file("tiny.gguf"));
    model_.emplace(folder_.file("tiny.gguf"));
  }

  static CompressionOptions options(const char* method, int budget) {
    CompressionOptions result = default_options(method);
    result.budget = budget;
    result.allocation = "global";
    if (repeat_chunk(result) > 0) result.own["repeat_chunk"] = 150;
    return result;
  }

  testing::TemporaryFolder folder_;
  std::optional<Model> model_;
};

TEST_F(GlobalAllocationTest, KeepsTheBestOfAllLayers) {
  const ModelConfig& c = model_->config();
  const std::vector<int32_t> tokens = text(400, 1);
  Engine engine(*model_);
  for (const char* method : {"restkv", "snapkv", "h2o", "keydiff", "expected-attention", "knorm",
                             "kvzip", "kvzip-plus", "restkv-repeat"}) {
    for (const int budget : {50, 390}) {
      for (const KvType type : {KvType::kF32, KvType::kF16, KvType::kQ8, KvType::kQ4}) {
        SCOPED_TRACE(std::string(method) + ", budget " + std::to_string(budget) + ", " +
                     std::string(kv_type_name(type)));
        CacheRequest request = request_for(options(method, budget), type);
        request.keep_selections = true;
        engine.prefill(tokens, {&request, 1}, {}, kPrompt);
        Workspace workspace(*model_);
        SparsePrefill dense(c);
        WholeSink whole(request.options);
        Prefill(*model_, workspace, tokens, whole, dense).run({});
        const auto expected = best_of_all(whole.scores, tokens.size(), static_cast<size_t>(budget));
        for (size_t layer = 0; layer < c.layers; ++layer) {
          ASSERT_EQ(request.selections[layer].keep, expected[layer].keep) << "layer " << layer;
          // The rows are those that would have been stored at once.
          KvCache once(c.layers, c.kv_heads, c.key_dim, c.value_dim, type);
          const size_t n = tokens.size();
          once.gather(layer, {whole.keys[layer].data(), c.kv_heads, n, c.key_dim},
                      {whole.values[layer].data(), c.kv_heads, n, c.value_dim}, expected[layer]);
          for (size_t h = 0; h < c.kv_heads; ++h) {
            const size_t rows = expected[layer].keep[h].size();
            ASSERT_TRUE(
                std::ranges::equal(request.cache.positions(layer, h), expected[layer].keep[h]));
            std::vector<float> k(rows * c.key_dim), v(rows * c.value_dim);
            std::vector<float> k_once(k.size()), v_once(v.size());
            request.cache.read(layer, h, {k.data(), rows, c.key_dim},
                               {v.data(), rows, c.value_dim});
            once.read(layer, h, {k_once.data(), rows, c.key_dim},
                      {v_once.data(), rows, c.value_dim});
            ASSERT_EQ(k, k_once);
            ASSERT_EQ(v, v_once);
          }
        }
      }
    }
  }
}

TEST_F(GlobalAllocationTest, MemoryStaysThatOfTheResult) {
  const ModelConfig& c = model_->config();
  const std::vector<int32_t> tokens = text(800, 2);
  Engine engine(*model_);
  for (const char* method : {"snapkv", "kvzip"}) {
    CacheRequest request = request_for(options(method, 100), KvType::kF32);
    size_t most = 0;
    engine.prefill(
        tokens, {&request, 1},
        [&](double) {
          most = std::max(most, request.cache.allocated_bytes());
          return true;
        },
        kPrompt);
    const size_t row = (c.key_dim + c.value_dim) * sizeof(float) + sizeof(int32_t);
    const size_t budget = c.layers * c.kv_heads * 100 * row;
    EXPECT_LE(request.cache.kept_bytes(), budget);
    // Closed heads have 1/64 more room and whole cache lines.
    EXPECT_LE(most, budget + budget / 64 + c.layers * c.kv_heads * 128) << method;
    EXPECT_GT(most, budget / 2);
  }
}

TEST_F(GlobalAllocationTest, TurnsAnswersAndCutsKeepTheBudget) {
  const ModelConfig& c = model_->config();
  const Engine engine(*model_);
  for (const char* method : {"restkv", "h2o", "keydiff", "knorm", "kvzip"}) {
    for (const KvType type : {KvType::kF16, KvType::kQ8}) {
      SCOPED_TRACE(method);
      SessionOptions options;
      options.compression = GlobalAllocationTest::options(method, 60);
      options.kv_type = type;
      options.interval = 16;
      options.chunk = 130;
      options.repeat = kPrompt;
      Session session(engine, options);
      const auto rows = [&] {
        size_t sum = 0;
        for (size_t layer = 0; layer < c.layers; ++layer) {
          for (size_t h = 0; h < c.kv_heads; ++h) {
            sum += session.cache().positions(layer, h).size();
          }
        }
        return sum;
      };
      session.append(text(300, 3));
      EXPECT_EQ(rows(), 60 * c.layers * c.kv_heads);
      for (int32_t i = 0; i < 40; ++i) {
        session.append(i);
        EXPECT_LT(rows(), (60 + 16) * c.layers * c.kv_heads);
      }
      session.append(text(20, 4));
      EXPECT_EQ(rows(), 60 * c.layers * c.kv_heads);
      Session copy = session.fork();
      session.save(folder_.file("saved.rkv"));
      Session loaded = Session::load(engine, folder_.file("saved.rkv"));
      for (int32_t i = 0; i < 20; ++i) {
        session.append(i);
        copy.append(i);
        loaded.append(i);
      }
      EXPECT_TRUE(std::ranges::equal(session.logits(), copy.logits()));
      EXPECT_TRUE(std::ranges::equal(session.logits(), loaded.logits()));
    }
  }
}

TEST_F(GlobalAllocationTest, IsRefusedWhereItCannotWork) {
  const auto refused = [&](const char* method, auto change) {
    CompressionOptions o = options(method, 60);
    change(o);
    return refusal_if_any([&] { validate(o); });
  };
  const auto same = [](CompressionOptions&) {};
  EXPECT_THAT(refused("streaming-llm", same),
              HasSubstr("between layers, but method streaming-llm"));
  EXPECT_THAT(refused("lacache", same), HasSubstr("lacache"));
  EXPECT_THAT(refused("snapkv", [](auto& o) { o.critical = true; }), HasSubstr("critical"));
  SessionOptions session;
  session.compression = options("snapkv", 60);
  session.compact_positions = true;
  EXPECT_THAT(refusal_if_any([&] { Session(*model_, session); }), HasSubstr("uniform"));

  // A layer alone does not know the others.
  const std::vector<float> rows(2 * 90 * 8, 1.0F);
  LayerObservation layer;
  layer.keys = layer.values = {rows.data(), 2, 90, 8};
  layer.layers = 3;
  EXPECT_THAT(refusal_if_any([&] { select_tokens(layer, options("keydiff", 60)); }),
              HasSubstr("LayerCascade"));
}

}  // namespace
}  // namespace restkv
