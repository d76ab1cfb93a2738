// Layers without rotary embedding (SmolLM 3): what knows of positions leaves them alone.

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "engine/layer_observer.h"
#include "engine/streams.h"
#include "engine/workspace.h"
#include "restkv/session.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

class StillLayersTest : public ::testing::Test {
 protected:
  StillLayersTest() {
    testing::TinyModel tiny;
    tiny.architecture = "smollm3";
    tiny.layers = 4;
    tiny.write(folder_.file("tiny.gguf"));
    model_.emplace(folder_.file("tiny.gguf"));
  }

  /// Kept keys of a layer's first head.
  static std::vector<float> keys(const Session& session, size_t layer) {
    const KvCache& cache = session.cache();
    const size_t rows = cache.heads(layer)[0].count;
    std::vector<float> keys(rows * 16);
    std::vector<float> values(rows * 16);
    cache.read(layer, 0, {keys.data(), rows, 16}, {values.data(), rows, 16});
    return keys;
  }

  testing::TemporaryFolder folder_;
  std::optional<Model> model_;
};

TEST_F(StillLayersTest, CompactPositionsLeaveTheirKeysAsTheyAre) {
  std::vector<std::vector<float>> of_layer[2];
  for (const bool compact : {false, true}) {
    SessionOptions options;
    options.compression = default_options("snapkv");
    options.compression.budget = 60;
    options.kv_type = KvType::kF32;
    options.compact_positions = compact;
    Session session(*model_, options);
    session.append(tokens_of(200, 3));
    for (size_t layer = 0; layer < 4; ++layer) of_layer[compact].push_back(keys(session, layer));
    EXPECT_EQ(session.cache().next_position, compact ? 60U : 200U);
  }
  for (size_t layer = 0; layer < 4; ++layer) {
    EXPECT_EQ(of_layer[false][layer] == of_layer[true][layer], layer == 3) << "layer " << layer;
  }
}

TEST_F(StillLayersTest, MethodsSeeNoRotation) {
  CompressionOptions options = default_options("expected-attention");
  options.budget = 20;
  Workspace workspace(*model_);
  LayerObserver observer(*model_, {&options}, 40, workspace.rope_of(0));
  for (size_t layer = 0; layer < 4; ++layer) {
    observer.begin_layer(40);
    const MeanRotation& rotation = *observer.observation(0, layer).future_rotation;
    const bool still = std::ranges::all_of(rotation.cosine, [](float x) { return x == 1.0F; }) &&
                       std::ranges::all_of(rotation.sine, [](float x) { return x == 0.0F; });
    EXPECT_EQ(still, layer == 3) << "layer " << layer;
    EXPECT_EQ(rotation.cosine.size(), 8U);
  }
}

}  // namespace
}  // namespace restkv
