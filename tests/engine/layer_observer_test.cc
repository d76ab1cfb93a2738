// What the engine gathers from a prompt's blocks, against the whole prompt at once in float64.

#include "engine/layer_observer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <random>
#include <vector>

#include "model/weights.h"
#include "restkv/attention.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

constexpr size_t kLength = 90;

class LayerObserverTest : public ::testing::Test {
 protected:
  LayerObserverTest() {
    testing::TinyModel().write(folder_.file("tiny.gguf"));
    model_.emplace(folder_.file("tiny.gguf"));
    const ModelConfig& c = config();
    std::mt19937 rng(5);
    std::normal_distribution<float> normal;
    for (auto* x : {&plain_, &keys_, &values_}) {
      x->resize((x == &plain_ ? c.query_heads : c.kv_heads) * kLength * c.key_dim);
      std::generate(x->begin(), x->end(), [&] { return normal(rng); });
    }
    rope_.emplace(c.rope, model_->weights().rope_factors, model_->weights().architecture->rope);
    rope_->grow(kLength);
    rotated_ = plain_;
    rope_->rotate({rotated_.data(), c.query_heads, kLength, c.key_dim}, consecutive(0, kLength));
  }

  [[nodiscard]] const ModelConfig& config() const { return model_->config(); }
  [[nodiscard]] Heads<const float> queries() const {
    return {rotated_.data(), config().query_heads, kLength, config().key_dim};
  }
  [[nodiscard]] Heads<const float> keys() const {
    return {keys_.data(), config().kv_heads, kLength, config().key_dim};
  }

  [[nodiscard]] Heads<const float> values() const {
    return {values_.data(), config().kv_heads, kLength, config().value_dim};
  }

  /// Sends one layer through the observer, in blocks; the outputs of the first tokens are unwanted.
  void send(LayerObserver& observer, size_t block, size_t unwanted = 0) {
    const ModelConfig& c = config();
    LayerKv kv;
    kv.begin(c, nullptr, 0, kLength, 0);
    kv.store(keys(), values(), 0);
    observer.begin_layer(kLength);
    std::vector<float> out(c.query_heads * block * c.value_dim);
    for (size_t first = 0; first < kLength; first += block) {
      const size_t rows = std::min(block, kLength - first);
      const Heads<float> outputs(out.data(), c.query_heads, rows, c.value_dim);
      prefill_attention(queries().slice_rows(first, rows), keys(), values(), first,
                        {.scale = c.attention_scale}, outputs, observer.lse(rows, first + rows));
      const size_t missing = std::min(rows, unwanted - std::min(unwanted, first));
      observer.add(queries().slice_rows(first, rows), outputs.slice_rows(missing, rows - missing),
                   kv, first, {}, 0);
    }
  }

  testing::TemporaryFolder folder_;
  std::optional<Model> model_;
  std::optional<RopeTable> rope_;
  std::vector<float> plain_, rotated_, keys_, values_;
};

CompressionOptions request_for(std::string_view method, int budget) {
  CompressionOptions options = default_options(method);
  options.budget = budget;
  return options;
}

std::vector<const CompressionOptions*> pointers(const std::vector<CompressionOptions>& requests) {
  std::vector<const CompressionOptions*> result;
  for (const CompressionOptions& options : requests) result.push_back(&options);
  return result;
}

TEST_F(LayerObserverTest, GathersWhatMethodsAskForOverBlocks) {
  std::vector<CompressionOptions> requests;
  for (const char* method : {"h2o", "expected-attention", "snapkv"}) {
    requests.push_back(request_for(method, 40));
  }
  requests[1].sinks = 20;  // more than a block
  LayerObserver observer(*model_, pointers(requests), kLength, *rope_);
  EXPECT_TRUE(observer.needs_all_rows());
  const ModelConfig& c = config();
  const auto sinks = static_cast<size_t>(requests[1].sinks);
  for (size_t layer = 0; layer < 2; ++layer) {  // nothing is left of the layer before
    send(observer, 16);
    const LayerObservation seen = observer.observation(0, layer);
    EXPECT_EQ(seen.layer, layer);
    EXPECT_EQ(seen.layers, c.layers);
    ASSERT_EQ(seen.queries.rows, 32U);
    const LayerObservation moments = observer.observation(1, layer);
    ASSERT_NE(moments.query_statistics, nullptr);
    EXPECT_EQ(moments.query_statistics->count(), kLength - sinks);
    EXPECT_EQ(seen.query_statistics, nullptr);
    for (size_t h = 0; h < c.query_heads; ++h) {
      for (size_t r = 0; r < 32; ++r) {
        for (size_t d = 0; d < c.key_dim; ++d) {
          ASSERT_EQ(seen.queries.row(h, r)[d], queries().row(h, kLength - 32 + r)[d]);
        }
      }
      std::vector<double> sums(kLength, 0.0);
      for (size_t i = 0; i < kLength; ++i) {
        std::vector<double> weights(i + 1);
        double total = 0.0;
        for (size_t j = 0; j <= i; ++j) {
          double z = 0.0;
          for (size_t d = 0; d < c.key_dim; ++d) {
            z += double{queries().row(h, i)[d]} * keys().row(h * c.kv_heads / c.query_heads, j)[d];
          }
          weights[j] = std::exp(z * double{c.attention_scale});
          total += weights[j];
        }
        for (size_t j = 0; j <= i; ++j) sums[j] += weights[j] / total;
      }
      for (size_t j = 0; j < kLength; ++j) {
        EXPECT_NEAR(seen.attention_sums.row(h)[j], sums[j], 1e-4 * sums[j] + 1e-6);
      }
      for (size_t d = 0; d < c.key_dim; ++d) {
        double mean = 0.0;
        for (size_t i = sinks; i < kLength; ++i) {
          mean += plain_[(h * kLength + i) * c.key_dim + d] / double(kLength - sinks);
        }
        EXPECT_NEAR(moments.query_statistics->mean(h)[d], mean, 1e-5);
      }
    }
  }
}

TEST_F(LayerObserverTest, AveragesTheRotationsToCome) {
  std::vector<CompressionOptions> requests = {request_for("expected-attention", 40)};
  requests[0].own["future"] = 1;
  LayerObserver observer(*model_, pointers(requests), kLength, *rope_);
  observer.begin_layer(kLength);
  const LayerObservation seen = observer.observation(0, 0);
  ASSERT_NE(seen.future_rotation, nullptr);
  // One position ahead is a plain rotation.
  const ModelConfig& c = config();
  std::vector<float> expected(plain_.begin(), plain_.begin() + static_cast<ptrdiff_t>(c.key_dim));
  std::vector<float> actual = expected;
  rope_->rotate({expected.data(), 1, 1, c.key_dim}, consecutive(kLength, 1));
  seen.future_rotation->rotate(actual.data());
  for (size_t d = 0; d < c.key_dim; ++d) EXPECT_NEAR(actual[d], expected[d], 1e-6);
}

TEST_F(LayerObserverTest, HandsOnTheSoftmaxDenominatorsOfTheLastQueries) {
  const ModelConfig& c = config();
  const std::vector<CompressionOptions> requests = {request_for("restkv", 40)};
  for (const size_t block : {7, 16, 32, 1000}) {  // the window lies in several of them, or in one
    LayerObserver observer(*model_, pointers(requests), kLength, *rope_);
    send(observer, block);
    const LayerObservation seen = observer.observation(0, 0);
    ASSERT_EQ(seen.lse.rows, c.query_heads);
    ASSERT_EQ(seen.lse.cols, seen.queries.rows);
    const size_t group = c.query_heads / c.kv_heads;
    for (size_t h = 0; h < c.query_heads; ++h) {
      for (size_t r = 0; r < seen.queries.rows; ++r) {
        double sum = 0;
        for (size_t j = 0; j <= kLength - seen.queries.rows + r; ++j) {
          double z = 0;
          for (size_t d = 0; d < c.key_dim; ++d) {
            z += double{seen.queries.row(h, r)[d]} * keys().row(h / group, j)[d];
          }
          sum += std::exp(z * c.attention_scale);
        }
        EXPECT_NEAR(seen.lse.row(h)[r], std::log(sum), 1e-5) << h << ", " << r;
      }
    }
  }
}

TEST_F(LayerObserverTest, HandsOnTheOutputsOfTheLastQueries) {
  const ModelConfig& c = config();
  std::vector<float> all(c.query_heads * kLength * c.value_dim);
  const Heads<float> expected(all.data(), c.query_heads, kLength, c.value_dim);
  prefill_attention(queries(), keys(), values(), 0, {.scale = c.attention_scale}, expected);
  // Only ReST-KV has a use for them, and looks at fewer queries than its neighbour here.
  std::vector<CompressionOptions> requests = {request_for("restkv", 40), request_for("snapkv", 80)};
  requests[1].window = 50;
  for (const size_t block : {7, 16, 32, 1000}) {
    for (const size_t unwanted : {size_t{0}, kLength - 32, kLength - 31, kLength - 1}) {
      LayerObserver observer(*model_, pointers(requests), kLength, *rope_);
      send(observer, block, unwanted);
      const Heads<const float> seen = observer.observation(0, 0).outputs;
      if (unwanted > kLength - 32) {
        EXPECT_EQ(seen.rows, 0U) << block << ", " << unwanted;
        continue;
      }
      ASSERT_EQ(seen.rows, 32U) << block << ", " << unwanted;
      ASSERT_EQ(seen.dim, c.value_dim);
      for (size_t h = 0; h < c.query_heads; ++h) {
        for (size_t r = 0; r < 32; ++r) {
          for (size_t d = 0; d < c.value_dim; ++d) {
            ASSERT_NEAR(seen.row(h, r)[d], expected.row(h, kLength - 32 + r)[d], 1e-5);
          }
        }
      }
    }
  }
}

TEST_F(LayerObserverTest, HandsOnTheRotationsOfPositionsToCome) {
  const ModelConfig& c = config();
  std::vector<CompressionOptions> requests = {request_for("snapkv", 40),
                                              request_for("triattention", 40)};
  requests[1].own["offset_max"] = 5;  // 1, 2 and 4
  LayerObserver observer(*model_, pointers(requests), kLength, *rope_, 1000, true);
  observer.begin_layer(kLength);
  EXPECT_TRUE(observer.observation(0, 0).rotations.empty());
  const auto rotations = observer.observation(1, 0).rotations;
  ASSERT_EQ(rotations.size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    std::vector<float> expected(plain_.begin(), plain_.begin() + static_cast<ptrdiff_t>(c.key_dim));
    std::vector<float> actual = expected;
    rope_->rotate({expected.data(), 1, 1, c.key_dim}, consecutive(1000 + kLength + (1U << i), 1));
    rotations[i].rotate(actual.data());
    for (size_t d = 0; d < c.key_dim; ++d) EXPECT_NEAR(actual[d], expected[d], 1e-6);
  }
}

TEST_F(LayerObserverTest, HandsOnTheKeysBeforeRotaryEmbedding) {
  const ModelConfig& c = config();
  const std::vector<float> plain = keys_;
  KvCache cache(c.layers, c.kv_heads, c.key_dim, c.value_dim, KvType::kF32);
  // Heads hold different positions, with gaps, and new tokens follow at position 300.
  const std::vector<size_t> positions[] = {{3, 4, 5, 90, 200}, {0, 7, 8}};
  std::vector<float> rotated = plain;
  std::vector<std::vector<int32_t>> of_rows(c.kv_heads, std::vector<int32_t>(kLength, 0));
  Selection rows;
  for (size_t h = 0; h < c.kv_heads; ++h) {
    const std::vector<size_t>& held = positions[h % 2];
    rope_->rotate({rotated.data() + h * kLength * c.key_dim, 1, held.size(), c.key_dim}, held);
    std::copy(held.begin(), held.end(), of_rows[h].begin());
    rows.keep.emplace_back(held.size());
    std::iota(rows.keep.back().begin(), rows.keep.back().end(), 0);
  }
  cache.gather(0, {rotated.data(), c.kv_heads, kLength, c.key_dim}, values(), rows, of_rows);
  LayerKv kv;
  kv.begin(c, &cache, 0, 10, 300);
  std::vector<float> added(plain.begin(),
                           plain.begin() + static_cast<ptrdiff_t>(c.kv_heads * 10 * c.key_dim));
  const Heads<float> block(added.data(), c.kv_heads, 10, c.key_dim);
  rope_->rotate(block, consecutive(300, 10));
  kv.store(block, values().slice_rows(0, 10), 0);

  const std::vector<CompressionOptions> requests = {request_for("snapkv", 40),
                                                    request_for("leverage", 40)};
  LayerObserver observer(*model_, pointers(requests), 10, *rope_, 300, true);
  EXPECT_EQ(observer.unrotated_keys(0, 0, kv).data, nullptr);
  const Heads<const float> keys = observer.unrotated_keys(1, 0, kv);
  ASSERT_EQ(keys.rows, kv.rows());
  for (size_t h = 0; h < c.kv_heads; ++h) {
    const size_t held = positions[h % 2].size();
    const size_t padding = kv.prefix() - held;
    for (size_t d = 0; d < c.key_dim; ++d) {
      for (size_t i = 0; i < held; ++i) {
        EXPECT_NEAR(keys.row(h, padding + i)[d], plain[(h * kLength + i) * c.key_dim + d], 1e-5);
      }
      for (size_t i = 0; i < 10; ++i) {
        EXPECT_NEAR(keys.row(h, kv.prefix() + i)[d], plain[(h * 10 + i) * c.key_dim + d], 1e-5);
      }
    }
  }
}

TEST_F(LayerObserverTest, LooksAtNothingThatNobodyNeeds) {
  // The first is kept whole, the others look at keys and values alone.
  const std::vector<CompressionOptions> requests = {
      request_for("h2o", 90), request_for("keydiff", 40), request_for("full", 40)};
  LayerObserver observer(*model_, pointers(requests), kLength, *rope_);
  EXPECT_FALSE(observer.needs_all_rows());
  send(observer, 16);
  EXPECT_EQ(observer.lse(16, kLength).data, nullptr);
  const LayerObservation seen = observer.observation(0, 0);
  EXPECT_EQ(seen.queries.rows, 0U);
  EXPECT_EQ(seen.outputs.rows, 0U);
  EXPECT_EQ(seen.attention_sums.data, nullptr);
  EXPECT_EQ(seen.output, nullptr);
}

}  // namespace
}  // namespace restkv
