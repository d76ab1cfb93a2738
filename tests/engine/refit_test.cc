// Refitted caches: that they are what the stages make of each layer, and that nothing that attends
// to them, moves, copies or saves them loses a bias.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/prefill.h"
#include "engine/streams.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "restkv/stages.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::refusal_if_any;

RepeatPrompt words() {
  return {.first = tokens_of(5, 11),
          .later = tokens_of(4, 12),
          .answer = tokens_of(3, 13),
          .prefix = {}};
}

CompressionOptions refitting(const char* method, Refit refit, int budget) {
  CompressionOptions options = default_options(method);
  options.refit = refit;
  options.refit_queries = 50;
  options.window = 24;
  options.budget = budget;
  return options;
}

SessionOptions session_options(const CompressionOptions& compression, KvType type = KvType::kF32) {
  SessionOptions options;
  options.compression = compression;
  options.kv_type = type;
  options.repeat = words();
  return options;
}

/// What each layer without a window has before it is cut.
struct SeenLayer {
  std::vector<float> keys, values;  ///< [kv_heads, n, d]
  RefitTargets targets;
};

class SeeingSink : public LayerSink {
 public:
  SeeingSink(const Model& model, const CompressionOptions& options)
      : model_(model), options_(options) {}

  [[nodiscard]] std::vector<const CompressionOptions*> observed_for() const override {
    return {&options_};
  }
  [[nodiscard]] std::vector<RepeatFeed> feeds(std::span<const int32_t> tokens) const override {
    return repeat_feeds(tokens, repeat_pass(options_), words());
  }
  void take(size_t layer, LayerKv& kv, LayerObserver& observer) override {
    if (model_.config().windows[layer] > 0) return;
    LayerObservation observation = observer.observation(0, layer);
    observation.keys = kv.keys();
    observation.values = kv.values();
    SeenLayer& seen = layers[layer];
    seen.targets = refit_targets(observation, options_);
    for (size_t h = 0; h < kv.heads(); ++h) {
      for (size_t r = 0; r < kv.rows(); ++r) {
        seen.keys.insert(seen.keys.end(), kv.keys().row(h, r), kv.keys().row(h, r) + kv.keys().dim);
        seen.values.insert(seen.values.end(), kv.values().row(h, r),
                           kv.values().row(h, r) + kv.values().dim);
      }
    }
  }

  std::map<size_t, SeenLayer> layers;

 private:
  const Model& model_;
  const CompressionOptions& options_;
};

class EngineRefitTest : public ::testing::Test {
 protected:
  EngineRefitTest() {
    testing::TinyModel tiny;
    tiny.architecture = "gemma3";
    tiny.layers = 5;
    tiny.window = 30;
    tiny.window_pattern = 2;
    tiny.context = 2048;
    tiny.write(folder_.file("tiny.gguf"));
    model_.emplace(folder_.file("tiny.gguf"));
  }

  /// All biases of a cache.
  static std::vector<float> biases(const KvCache& cache) {
    std::vector<float> all;
    for (size_t layer = 0; layer < cache.layers(); ++layer) {
      for (size_t h = 0; h < cache.heads(layer).size(); ++h) {
        const auto bias = cache.bias(layer, h);
        all.insert(all.end(), bias.begin(), bias.end());
      }
    }
    return all;
  }

  void expect_refitted(const CompressionOptions& options, const std::vector<int32_t>& tokens) {
    const ModelConfig& c = model_->config();
    Engine engine(*model_);
    CacheRequest request;
    request.options = options;
    request.kv_type = KvType::kF32;
    engine.prefill(tokens, {&request, 1}, {}, words());
    Workspace workspace(*model_);
    SparsePrefill dense(c);
    SeeingSink sink(*model_, options);
    Prefill(*model_, workspace, tokens, sink, dense).run({});
    size_t refitted = 0;
    for (size_t layer = 0; layer < c.layers; ++layer) {
      const size_t heads = request.cache.heads(layer).size();
      for (size_t h = 0; h < heads; ++h) {
        const auto positions = request.cache.positions(layer, h);
        const size_t t = positions.size();
        const auto bias = request.cache.bias(layer, h);
        if (c.windows[layer] > 0 || t == tokens.size()) {
          EXPECT_TRUE(bias.empty());
          continue;
        }
        const SeenLayer& seen = sink.layers.at(layer);
        std::vector<float> keys, values;
        for (const int32_t p : positions) {
          const size_t at = h * c.kv_heads / heads * tokens.size() + static_cast<size_t>(p);
          keys.insert(keys.end(), &seen.keys[at * c.key_dim],
                      &seen.keys[at * c.key_dim] + c.key_dim);
          values.insert(values.end(), &seen.values[at * c.value_dim],
                        &seen.values[at * c.value_dim] + c.value_dim);
        }
        const size_t group = c.query_heads / heads;
        const RefittedRows expected = refit_rows(seen.targets, h * group, group,
                                                 {.keys = {keys.data(), t, c.key_dim},
                                                  .values = {values.data(), t, c.value_dim},
                                                  .positions = positions},
                                                 options);
        EXPECT_LT(expected.squared_error, expected.squared_error_before);
        std::vector<float> actual(t * c.value_dim), same(t * c.key_dim);
        request.cache.read(layer, h, {same.data(), t, c.key_dim}, {actual.data(), t, c.value_dim});
        EXPECT_EQ(actual, expected.values);
        EXPECT_EQ(same, keys);
        EXPECT_TRUE(std::ranges::equal(bias, expected.bias));
        ++refitted;
      }
    }
    EXPECT_GT(refitted, 0U);
  }

  testing::TemporaryFolder folder_;
  std::optional<Model> model_;
};

TEST_F(EngineRefitTest, LayersAreRefittedAfterTheirLastCut) {
  const std::vector<int32_t> tokens = tokens_of(700, 3);  // two blocks
  for (const Refit refit : {Refit::kWindow, Refit::kRepeat}) {
    for (const char* allocation : {"uniform", "ada", "global", "cake"}) {
      SCOPED_TRACE(allocation);
      CompressionOptions options = refitting("snapkv", refit, 60);
      options.allocation = allocation;
      expect_refitted(options, tokens);
      options.per_query_head = true;
      expect_refitted(options, tokens);
    }
  }
  expect_refitted(refitting("kvzip", Refit::kRepeat, 60), tokens);
  expect_refitted(refitting("attention-matching", Refit::kRepeat, 60), tokens);
}

TEST_F(EngineRefitTest, ASessionRefitsAsAPromptDoes) {
  const std::vector<int32_t> tokens = tokens_of(300, 3);
  for (const Refit refit : {Refit::kWindow, Refit::kRepeat}) {
    const CompressionOptions options = refitting("snapkv", refit, 60);
    Engine engine(*model_);
    CacheRequest request;
    request.options = options;
    request.kv_type = KvType::kF32;
    engine.prefill(tokens, {&request, 1}, {}, words());
    Session session(engine, session_options(options));
    session.append(tokens);
    EXPECT_EQ(biases(session.cache()), biases(request.cache));
    EXPECT_EQ(biases(session.cache()).size(),
              60 * model_->config().kv_heads * model_->config().global_layers());
    const auto expected = copy(engine.decode(7, request.cache));
    EXPECT_EQ(copy(session.append(7)), expected);
  }
}

// A prompt attends to the rows of a cache as float32 arrays, a token to the cache itself.
TEST_F(EngineRefitTest, PromptsSeeBiasesAsTokensDo) {
  for (const KvType type : {KvType::kF32, KvType::kF16, KvType::kQ8, KvType::kQ4}) {
    for (const char* allocation : {"uniform", "ada"}) {
      // Of heads with any number of rows, some fill a quantised block in between.
      const bool quantized = type == KvType::kQ8 || type == KvType::kQ4;
      if (quantized && std::string(allocation) == "ada") continue;
      CompressionOptions options = refitting("snapkv", Refit::kWindow, 80);
      options.allocation = allocation;
      Session whole(*model_, session_options(options, type));
      whole.append(tokens_of(300, 4));
      whole.set_budget(1000);
      Session single = whole.fork();
      const std::vector<int32_t> more = tokens_of(12, 5);
      for (const int32_t token : more) single.append(token);
      whole.append(more);
      EXPECT_EQ(biases(whole.cache()), biases(single.cache()));
      const auto a = copy(whole.logits());
      const auto b = copy(single.logits());
      // A prompt sees its own rows in float32, a token those before it as they are stored.
      for (size_t i = 0; i < a.size(); ++i) {
        ASSERT_NEAR(a[i], b[i], type == KvType::kF32 ? 2e-4 : 5e-3) << kv_type_name(type);
      }
    }
  }
}

TEST_F(EngineRefitTest, RowsKeepTheirBiasesWhereNothingIsRefitted) {
  Session session(*model_, session_options(refitting("snapkv", Refit::kRepeat, 60)));
  session.append(tokens_of(300, 6));
  const ModelConfig& c = model_->config();
  std::map<std::pair<size_t, int32_t>, float> before;
  const auto for_each_row = [&](const auto& see) {
    for (size_t layer = 0; layer < c.layers; ++layer) {
      for (size_t h = 0; h < c.kv_heads && c.windows[layer] == 0; ++h) {
        const auto positions = session.cache().positions(layer, h);
        const auto bias = session.cache().bias(layer, h);
        ASSERT_EQ(bias.size(), positions.size());
        for (size_t i = 0; i < bias.size(); ++i) {
          see(std::pair(layer * c.kv_heads + h, positions[i]), bias[i]);
        }
      }
    }
  };
  for_each_row([&](const auto& row, float bias) { before[row] = bias; });
  for (int32_t i = 0; i < 30; ++i) session.append(i);
  session.compress();  // there is no repeat pass
  size_t old_rows = 0;
  size_t new_rows = 0;
  for_each_row([&](const auto& row, float bias) {
    const auto found = before.find(row);
    EXPECT_EQ(bias, found == before.end() ? 0.0F : found->second);
    ++(found == before.end() ? new_rows : old_rows);
  });
  EXPECT_GT(old_rows, 50U);
  EXPECT_GT(new_rows, 50U);

  session.append(tokens_of(100, 7));  // is repeated, so that all rows are refitted
  size_t changed = 0;
  for_each_row([&](const auto& row, float bias) {
    EXPECT_LE(std::abs(bias), 3.001F);
    const auto found = before.find(row);
    if (found != before.end() && found->second != bias) ++changed;
  });
  EXPECT_GT(changed, 5U);
}

TEST_F(EngineRefitTest, ForksAndSnapshotsGoOnAlike) {
  const std::string path = folder_.file("session.rkv");
  for (const KvType type : {KvType::kF32, KvType::kF16, KvType::kQ8, KvType::kQ4}) {
    for (const char* method : {"snapkv", "h2o", "kvzip", "attention-matching"}) {
      for (const Refit refit : {Refit::kWindow, Refit::kRepeat}) {
        SCOPED_TRACE(std::string(method) + " " + std::string(kv_type_name(type)));
        SessionOptions options = session_options(refitting(method, refit, 60), type);
        options.interval = 9;
        Session session(*model_, options);
        session.append(tokens_of(200, 8));
        Session fork = session.fork();
        session.save(path);
        Session loaded = Session::load(*model_, path);
        EXPECT_EQ(loaded.options().compression.refit, refit);
        EXPECT_EQ(biases(loaded.cache()), biases(session.cache()));
        EXPECT_FALSE(biases(loaded.cache()).empty());
        EXPECT_EQ(loaded.cache().kept_bytes(), session.cache().kept_bytes());
        for (Session* s : {&session, &fork, &loaded}) {
          for (int32_t i = 0; i < 20; ++i) s->append(i);
          s->append(tokens_of(70, 9));
          s->append(3);
        }
        EXPECT_EQ(copy(fork.logits()), copy(session.logits()));
        EXPECT_EQ(copy(loaded.logits()), copy(session.logits()));
        EXPECT_EQ(biases(loaded.cache()), biases(session.cache()));
      }
    }
  }
}

TEST_F(EngineRefitTest, SparsePatternsLeaveBiasedLayersDense) {
  const CompressionOptions options = refitting("snapkv", Refit::kWindow, 60);
  Session dense(*model_, session_options(options));
  dense.append(tokens_of(300, 10));
  Session sparse = dense.fork();
  sparse.set_sparse({.pattern = "a-shape"});
  EXPECT_EQ(copy(sparse.append(tokens_of(400, 11))), copy(dense.append(tokens_of(400, 11))));
}

TEST_F(EngineRefitTest, IsRefusedWhereItCannotWork) {
  SessionOptions options = session_options(refitting("snapkv", Refit::kWindow, 60));
  options.compact_positions = true;
  EXPECT_THAT(refusal_if_any([&] { Session(*model_, options); }),
              AllOf(HasSubstr("refit"), HasSubstr("compact positions")));
  options = session_options(refitting("snapkv", Refit::kRepeat, 60));
  options.repeat.reset();
  EXPECT_THAT(refusal_if_any([&] { Session(*model_, options); }),
              AllOf(HasSubstr("refit lets the model repeat"), HasSubstr("RepeatPrompt")));
  EXPECT_EQ(Session(*model_, session_options(refitting("snapkv", Refit::kRepeat, 60)))
                .reusable_tokens(10, 20),
            0U);
  // Without methods that use it nothing needs words.
  options.compression = default_options("full");
  options.compression.refit = Refit::kRepeat;
  EXPECT_EQ(refusal_if_any([&] { Session(*model_, options); }), "");
}

}  // namespace
}  // namespace restkv
