#include "restkv/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/threads.h"
#include "restkv/error.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

std::vector<int32_t> tokens_of(size_t count, size_t vocabulary = 256) {
  std::vector<int32_t> tokens(count);
  for (size_t i = 0; i < count; ++i) tokens[i] = static_cast<int32_t>((i * 97 + 31) % vocabulary);
  return tokens;
}

/// A tiny model on disk, loaded.
class EngineTest : public ::testing::Test {
 protected:
  EngineTest() {
    tiny_.context = 1500;
    tiny_.write(folder_.file("tiny.gguf"));
    model_.emplace(folder_.file("tiny.gguf"));
  }

  /// Greedy continuation over the cache that `options` leave.
  std::vector<int32_t> continue_greedily(const CompressionOptions& options, size_t prompt,
                                         size_t steps) {
    Engine engine(*model_);
    CacheRequest request;
    request.options = options;
    const std::vector<float> first = engine.prefill(tokens_of(prompt), {&request, 1});
    std::span<const float> logits = first;
    std::vector<int32_t> text;
    for (size_t i = 0; i < steps; ++i) {
      text.push_back(
          static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
      logits = engine.decode(text.back(), request.cache);
    }
    return text;
  }

  testing::TinyModel tiny_;
  testing::TemporaryFolder folder_;
  std::optional<Model> model_;
};

CompressionOptions options_with_budget(const char* method, int budget) {
  CompressionOptions options = default_options(method);
  options.budget = budget;
  return options;
}

TEST_F(EngineTest, ABudgetOfThePromptOrMoreGivesTheTextOfTheFullCache) {
  for (const size_t prompt : {1UL, 2UL, 31UL, 33UL, 200UL, 513UL}) {
    const auto expected = continue_greedily(default_options("full"), prompt, 20);
    for (const char* method : {"restkv", "snapkv", "streaming-llm"}) {
      for (const size_t extra : {0UL, 1UL, 1000UL}) {
        const auto budget = static_cast<int>(std::max<size_t>(prompt + extra, 33));
        EXPECT_EQ(continue_greedily(options_with_budget(method, budget), prompt, 20), expected)
            << method << " " << prompt << " tokens, budget " << budget;
      }
    }
  }
}

TEST_F(EngineTest, CachesHoldExactlyTheBudgetAndGrowByOneRowPerStep) {
  Engine engine(*model_);
  const ModelConfig& c = model_->config();
  const size_t row = (c.key_dim + c.value_dim) * 2;
  for (const char* method : {"restkv", "snapkv", "streaming-llm"}) {
    for (const bool per_query_head : {false, true}) {
      CacheRequest request;
      request.options = options_with_budget(method, 64);
      request.options.per_query_head = per_query_head;
      (void)engine.prefill(tokens_of(700), {&request, 1});
      const size_t heads = per_query_head ? c.query_heads : c.kv_heads;
      EXPECT_EQ(request.cache.kept_bytes(), c.layers * heads * 64 * row) << method;
      // Beside the rows themselves: their positions, and one row in 64 to grow into.
      EXPECT_LE(request.cache.allocated_bytes(), c.layers * heads * 65 * (row + sizeof(int32_t)));
      (void)engine.decode(5, request.cache);
      EXPECT_EQ(request.cache.kept_bytes(), c.layers * heads * 65 * row) << method;
      EXPECT_EQ(request.cache.next_position, 701U);
      EXPECT_EQ(request.cache.positions(0, 0).back(), 700);
    }
  }
}

TEST_F(EngineTest, CachesMadeTogetherEqualCachesMadeAlone) {
  Engine engine(*model_);
  std::vector<CacheRequest> together(3);
  together[0].options = options_with_budget("restkv", 64);
  together[1].options = options_with_budget("snapkv", 96);
  together[2].options = options_with_budget("streaming-llm", 40);
  const auto logits = engine.prefill(tokens_of(600), together);
  for (const CacheRequest& shared : together) {
    CacheRequest alone;
    alone.options = shared.options;
    EXPECT_EQ(engine.prefill(tokens_of(600), {&alone, 1}), logits);
    for (size_t layer = 0; layer < alone.cache.layers(); ++layer) {
      for (size_t h = 0; h < alone.cache.heads(layer).size(); ++h) {
        EXPECT_TRUE(
            std::ranges::equal(alone.cache.positions(layer, h), shared.cache.positions(layer, h)));
      }
    }
  }
}

TEST_F(EngineTest, ResultsDoNotDependOnTheNumberOfThreads) {
  const int before = num_threads();
  std::vector<std::vector<float>> logits;
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    Engine engine(*model_);
    CacheRequest request;
    request.options = options_with_budget("restkv", 64);
    logits.push_back(engine.prefill(tokens_of(300), {&request, 1}));
    const auto next = engine.decode(7, request.cache);
    logits.back().insert(logits.back().end(), next.begin(), next.end());
  }
  set_num_threads(before);
  EXPECT_EQ(logits[0], logits[1]);
  EXPECT_EQ(logits[0], logits[2]);
}

TEST_F(EngineTest, ScoreGivesTheLogitsOfEveryPrefix) {
  Engine engine(*model_);
  const auto tokens = tokens_of(150);
  std::vector<std::vector<float>> rows(tokens.size());
  engine.score(tokens, [&](size_t first, Matrix<const float> logits) {
    for (size_t r = 0; r < logits.rows; ++r) {
      rows[first + r].assign(logits.row(r), logits.row(r) + logits.cols);
    }
  });
  for (const size_t length : {20UL, 128UL, 150UL}) {
    const auto logits = engine.prefill(std::span(tokens).first(length), {});
    for (size_t v = 0; v < logits.size(); ++v) {
      ASSERT_NEAR(logits[v], rows[length - 1][v], 1e-4) << length;
    }
  }
}

void expect_error(ErrorCode code, const std::string& part, const std::function<void()>& action) {
  const std::string message = testing::refusal(code, action);
  EXPECT_NE(message.find(part), std::string::npos) << part << " is not in: " << message;
}

TEST_F(EngineTest, CachesDecodedTogetherDoNotDependOnEachOther) {
  Engine engine(*model_);
  std::vector<CacheRequest> requests(5);
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].options =
        options_with_budget(i % 2 == 0 ? "restkv" : "snapkv", static_cast<int>(40 + 30 * i));
    engine.prefill(tokens_of(100 + 57 * i), {&requests[i], 1});  // and different positions
  }
  std::vector<KvCache> alone;
  std::vector<KvCache> single_caches;
  std::vector<KvCache*> together;
  for (CacheRequest& request : requests) {
    alone.push_back(request.cache);
    single_caches.push_back(request.cache);
    together.push_back(&request.cache);
  }
  for (size_t step = 0; step < 40; ++step) {
    const std::vector<int32_t> tokens = tokens_of(step + requests.size());
    const std::span<const int32_t> now = std::span(tokens).last(requests.size());
    const Matrix<const float> actual = engine.decode(now, together);
    ASSERT_EQ(actual.rows, requests.size());
    const std::vector<float> kept(actual.data, actual.row(actual.rows));
    for (size_t i = 0; i < alone.size(); ++i) {
      KvCache* const one[] = {&alone[i]};
      const std::span<const float> expected = engine.decode(now.subspan(i, 1), one).row_span(0);
      const auto logits = std::span(kept).subspan(i * expected.size(), expected.size());
      ASSERT_TRUE(std::ranges::equal(logits, expected)) << "step " << step << ", cache " << i;
      // The function for one cache differs by its rounding.
      const std::span<const float> single = engine.decode(now[i], single_caches[i]);
      for (size_t t = 0; t < single.size(); ++t) ASSERT_NEAR(logits[t], single[t], 1e-3F);
    }
  }
  EXPECT_THROW(engine.decode(std::vector<int32_t>(4), together), Error);
  EXPECT_THROW(engine.decode(std::vector<int32_t>(), std::vector<KvCache*>()), Error);
  EXPECT_THROW(engine.decode(std::vector<int32_t>(Engine::kMaxBatch + 1),
                             std::vector<KvCache*>(Engine::kMaxBatch + 1)),
               Error);
}

TEST_F(EngineTest, ReadingOnGivesTheLogitsOfAWholePrompt) {
  Engine engine(*model_);
  for (const size_t first : {size_t{1}, size_t{300}, size_t{699}}) {
    const std::vector<int32_t> tokens = tokens_of(700);
    CacheRequest whole;
    whole.options = default_options("full");
    CacheRequest part = whole;
    const std::vector<float> expected = engine.prefill(tokens, {&whole, 1});
    engine.prefill(std::span(tokens).first(first), {&part, 1});
    const std::vector<float> logits = engine.extend(std::span(tokens).subspan(first), part.cache);
    EXPECT_EQ(part.cache.next_position, whole.cache.next_position);
    EXPECT_EQ(part.cache.kept_bytes(), whole.cache.kept_bytes());
    ASSERT_EQ(logits.size(), expected.size());
    for (size_t i = 0; i < logits.size(); ++i) ASSERT_NEAR(logits[i], expected[i], 2e-3) << first;
  }
}

TEST_F(EngineTest, ReadingOnKeepsAllBehindAnUnevenCache) {
  Engine engine(*model_);
  CacheRequest request;
  request.options = options_with_budget("snapkv", 64);
  request.options.allocation = "ada";
  engine.prefill(tokens_of(400), {&request, 1});
  std::vector<size_t> before;
  for (size_t layer = 0; layer < request.cache.layers(); ++layer) {
    for (const CachedHead& head : request.cache.heads(layer)) before.push_back(head.count);
  }
  const KvCache copy = request.cache;
  KvCache one_by_one = copy;
  const std::vector<int32_t> more = tokens_of(9);
  const std::vector<float> logits = engine.extend(more, request.cache);
  size_t i = 0;
  for (size_t layer = 0; layer < request.cache.layers(); ++layer) {
    for (const CachedHead& head : request.cache.heads(layer)) {
      EXPECT_EQ(head.count, before[i++] + more.size());
    }
  }
  std::span<const float> last;
  for (const int32_t token : more) last = engine.decode(token, one_by_one);
  for (size_t j = 0; j < logits.size(); ++j) ASSERT_NEAR(logits[j], last[j], 2e-2);
}

TEST_F(EngineTest, RefusesWhatItCannotRun) {
  Engine engine(*model_);
  CacheRequest request;
  request.options = options_with_budget("restkv", 64);
  const auto prefill = [&](const std::vector<int32_t>& tokens) {
    return [&, tokens] { (void)engine.prefill(tokens, {&request, 1}); };
  };
  expect_error(ErrorCode::kInvalidArgument, "no tokens", prefill({}));
  expect_error(ErrorCode::kInvalidArgument, "1501 tokens", prefill(tokens_of(1501)));
  expect_error(ErrorCode::kInvalidArgument, "token id 256", prefill({1, 256}));
  expect_error(ErrorCode::kInvalidArgument, "token id -1", prefill({-1}));
  request.options.budget = 32;
  expect_error(ErrorCode::kInvalidArgument, "budget 32", prefill(tokens_of(100)));
  request.options.budget = 64;
  (void)engine.prefill(tokens_of(1500), {&request, 1});
  expect_error(ErrorCode::kInvalidArgument, "position 1500",
               [&] { (void)engine.decode(1, request.cache); });
  const ModelConfig& c = model_->config();
  KvCache of_another(c.layers - 1, c.kv_heads, c.key_dim, c.value_dim);
  expect_error(ErrorCode::kInvalidArgument, "layers", [&] { (void)engine.decode(1, of_another); });
  expect_error(ErrorCode::kInvalidArgument, "layers",
               [&] { (void)engine.extend(tokens_of(9), of_another); });
  KvCache cache(c.layers, c.kv_heads, c.key_dim, c.value_dim);
  KvCache* const twice[] = {&cache, &cache};
  expect_error(ErrorCode::kInvalidArgument, "two tokens at once", [&] {
    (void)engine.decode(std::vector<int32_t>{1, 2}, twice);
  });
}

TEST_F(EngineTest, ProgressRisesAndCanStop) {
  Engine engine(*model_);
  CacheRequest request;
  request.options = options_with_budget("snapkv", 64);
  double last = 0;
  (void)engine.prefill(tokens_of(1300), {&request, 1}, [&](double done) {
    EXPECT_GT(done, last);
    last = done;
    return true;
  });
  EXPECT_DOUBLE_EQ(last, 1.0);
  expect_error(ErrorCode::kInterrupted, "interrupted", [&] {
    (void)engine.prefill(tokens_of(1300), {&request, 1}, [](double done) { return done < 0.5; });
  });
  // The engine is usable afterwards.
  EXPECT_EQ(engine.prefill(tokens_of(10), {&request, 1}).size(), 256U);
}

TEST_F(EngineTest, ReportsAModelThatComputesNaN) {
  testing::TinyModel broken = tiny_;
  broken.edit_tensor = [](testing::TinyTensor& tensor) {
    if (tensor.name == "blk.1.ffn_down.weight")
      tensor.values[3] = std::numeric_limits<float>::quiet_NaN();
    return true;
  };
  broken.write(folder_.file("nan.gguf"));
  const Model model(folder_.file("nan.gguf"));
  Engine engine(model);
  expect_error(ErrorCode::kInput, "NaN", [&] { (void)engine.prefill(tokens_of(40), {}); });
}

// Finite weights whose keys or values pass 65,504: half precision is to blame, not the file.
TEST_F(EngineTest, NamesTheStorageTypeThatIsTooSmall) {
  for (const char* loud : {"blk.1.attn_k.weight", "blk.1.attn_v.weight"}) {
    testing::TinyModel description = tiny_;
    description.edit_tensor = [&](testing::TinyTensor& tensor) {
      if (tensor.name == loud) {
        for (float& x : tensor.values) x *= 3e5F;
      }
      return true;
    };
    description.write(folder_.file("loud.gguf"));
    const Model model(folder_.file("loud.gguf"));
    Engine engine(model);
    for (const KvType type : {KvType::kF16, KvType::kQ8, KvType::kQ4, KvType::kF32}) {
      SCOPED_TRACE(std::string(loud) + " in " + std::string(kv_type_name(type)));
      CacheRequest request;
      request.options = default_options("full");
      request.kv_type = type;
      const auto prefill = [&] { (void)engine.prefill(tokens_of(40), {&request, 1}); };
      if (type != KvType::kF32) {
        expect_error(ErrorCode::kInput, "kv_type f32", prefill);
        expect_error(ErrorCode::kInput, "loud.gguf", prefill);
        continue;
      }
      prefill();
      for (const float x : engine.decode(7, request.cache)) ASSERT_TRUE(std::isfinite(x));
    }
  }
}

// The first token that does not fit may be a decoded one: here 9, whose first value is large
// because it points where the token does.
TEST_F(EngineTest, NamesTheStorageTypeWhileDecoding) {
  testing::TinyModel description = tiny_;
  std::vector<float> direction;
  description.edit_tensor = [&](testing::TinyTensor& tensor) {
    if (tensor.name == "token_embd.weight") {
      const auto row = tensor.values.begin() + static_cast<ptrdiff_t>(9 * tensor.cols);
      direction.assign(row, row + static_cast<ptrdiff_t>(tensor.cols));
    }
    if (tensor.name == "blk.0.attn_v.weight") {
      float square = 0;
      for (const float x : direction) square += x * x;
      const float length = std::sqrt(square * static_cast<float>(direction.size()));
      for (size_t i = 0; i < direction.size(); ++i)
        tensor.values[i] = 1.5e5F / length * direction[i];
    }
    return true;
  };
  description.write(folder_.file("loud.gguf"));
  ASSERT_FALSE(direction.empty());
  const Model model(folder_.file("loud.gguf"));
  Engine engine(model);
  CacheRequest request;
  request.options = default_options("full");
  (void)engine.prefill(std::vector<int32_t>(20, 7), {&request, 1});
  (void)engine.decode(7, request.cache);
  expect_error(ErrorCode::kInput, "kv_type f32", [&] { (void)engine.decode(9, request.cache); });
}

}  // namespace
}  // namespace restkv
