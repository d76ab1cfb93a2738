// Methods that cut the cache while an answer is written, against recorded runs of a tiny Llama.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/decode.h"
#include "engine/evict.h"
#include "engine/prefill.h"
#include "engine/sequence.h"
#include "engine/sparse_prefill.h"
#include "engine/workspace.h"
#include "model/weights.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "restkv/stages.h"
#include "support/golden.h"
#include "support/golden_model.h"
#include "support/statistics.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using testing::GoldenCase;

/// Kept positions after a cut: [layer][head], ascending.
using Kept = std::vector<std::vector<std::vector<int32_t>>>;

Kept recorded_cut(const GoldenCase& golden, size_t cut) {
  const std::vector<size_t>& shape = golden.shape("keep_cuts");
  auto at = golden.ints("keep_cuts").begin() +
            static_cast<ptrdiff_t>(cut * shape[1] * shape[2] * shape[3]);
  Kept kept(shape[1], std::vector<std::vector<int32_t>>(shape[2]));
  for (auto& layer : kept) {
    for (auto& head : layer) {
      head.assign(at, at + static_cast<ptrdiff_t>(shape[3]));
      at += static_cast<ptrdiff_t>(shape[3]);
    }
  }
  return kept;
}

Kept positions_of(const KvCache& cache) {
  Kept kept(cache.layers());
  for (size_t layer = 0; layer < cache.layers(); ++layer) {
    for (size_t h = 0; h < cache.heads(layer).size(); ++h) {
      const auto positions = cache.positions(layer, h);
      kept[layer].emplace_back(positions.begin(), positions.end());
      std::ranges::sort(kept[layer].back());
    }
  }
  return kept;
}

void expect_logits(const GoldenCase& golden, size_t step, std::span<const float> logits) {
  const auto expected = golden.matrix("logits").row_span(step);
  for (size_t v = 0; v < expected.size(); ++v) {
    ASSERT_NEAR(logits[v], expected[v], 1e-3) << "step " << step;
  }
}

/// Index of the cut after a step, or none. The prompt is step -1.
std::optional<size_t> cut_after(const GoldenCase& golden, int32_t step) {
  const auto& steps = golden.ints("cut_steps");
  const auto found = std::ranges::find(steps, step);
  if (found == steps.end()) return std::nullopt;
  return static_cast<size_t>(found - steps.begin());
}

CompressionOptions rkv_options(const Json& params) {
  CompressionOptions options = default_options("rkv");
  options.budget = params.at("budget").get<int>();
  options.window = params.at("window").get<int>();
  options.kernel = params.at("kernel").get<int>();
  options.own["mix_lambda"] = params.at("mix_lambda").get<double>();
  return options;
}

/// A sequence that never cuts itself, so that a test can do it.
class Answer {
 public:
  Answer(const Model& model, CompressionOptions options) : model_(model), workspace_(model) {
    options.budget = 1 << 20;
    sequence_.options.compression = options;
    sequence_.options.kv_type = KvType::kF32;
    begin_sequence(model, sequence_);
  }
  void read(std::span<const int32_t> tokens) {
    SparsePrefill sparse(model_.config());
    SequenceSink sink(model_, workspace_, sequence_, tokens.size());
    Prefill prefill(model_, workspace_, tokens, sink, sparse);
    prefill.run({});
    prefill.last_logits(sequence_.logits);
  }
  void say(int32_t token) { decode(model_, workspace_, token, sequence_); }
  [[nodiscard]] Sequence& sequence() { return sequence_; }

 private:
  const Model& model_;
  Workspace workspace_;
  Sequence sequence_;
};

/// The rows of a layer's cache as arrays.
struct LayerRows {
  LayerRows(const ModelConfig& c, const KvCache& cache, size_t layer)
      : count(cache.positions(layer, 0).size()),
        k(c.kv_heads * count * c.key_dim),
        v(c.kv_heads * count * c.value_dim),
        keys(k.data(), c.kv_heads, count, c.key_dim),
        values(v.data(), c.kv_heads, count, c.value_dim) {
    for (size_t h = 0; h < c.kv_heads; ++h) {
      cache.read(layer, h, keys.head(h), values.head(h));
      const auto held = cache.positions(layer, h);
      positions.emplace_back(held.begin(), held.end());
    }
  }
  size_t count;
  std::vector<float> k, v;
  Heads<float> keys, values;
  std::vector<std::vector<int32_t>> positions;
};

/// Cuts a layer as the authors of R-KV do: kept rows stand in falling order of their scores, then
/// come those of the window.
void cut_in_score_order(const ModelConfig& c, Sequence& sequence, size_t layer,
                        const CompressionOptions& options) {
  const LayerRows rows_of_layer(c, sequence.cache, layer);
  LayerObservation observation;
  observation.queries = sequence.layers[layer].queries();
  observation.keys = rows_of_layer.keys;
  observation.values = rows_of_layer.values;
  observation.scale = c.attention_scale;
  SelectionTrace trace;
  Selection kept = select_tokens(observation, options, &trace);
  const auto window = static_cast<ptrdiff_t>(options.window);
  for (size_t h = 0; h < c.kv_heads; ++h) {
    std::vector<int32_t>& rows = kept.keep[h];
    std::stable_sort(rows.begin(), rows.end() - window, [&](int32_t a, int32_t b) {
      return trace.scores[h][static_cast<size_t>(a)] > trace.scores[h][static_cast<size_t>(b)];
    });
  }
  sequence.cache.gather(layer, rows_of_layer.keys, rows_of_layer.values, kept,
                        rows_of_layer.positions);
}

CompressionOptions triattention_options(const GoldenCase& golden, const std::string& statistics) {
  const Json& params = golden.params();
  const std::vector<size_t>& shape = golden.shape("q_mean_real");
  testing::StatisticsFile{.layers = shape[0],
                          .heads = shape[1],
                          .pairs = shape[2],
                          .real = golden.floats("q_mean_real"),
                          .imaginary = golden.floats("q_mean_imag"),
                          .magnitude = golden.floats("q_abs_mean")}
      .write(statistics);
  CompressionOptions options = default_options("triattention");
  options.statistics = statistics;
  options.budget = params.at("budget").get<int>();
  options.window = 0;
  const bool evictable = params.at("allow_prefill_compression").get<bool>();
  options.sinks = evictable ? 0 : static_cast<int>(golden.ints("ids").size());
  return options;
}

/// Cuts all layers as the authors of TriAttention do: each for itself, or all alike by the mean of
/// their scores.
void cut_by_statistics(const Model& model, Sequence& sequence, const CompressionOptions& options,
                       bool alike) {
  const ModelConfig& c = model.config();
  RopeTable rope(c.rope, model.weights().rope_factors, model.weights().architecture->rope);
  std::vector<MeanRotation> rotations;
  for (const size_t offset : rotation_offsets(options)) {
    rotations.push_back(rope.at(sequence.cache.next_position + offset));
  }
  std::vector<LayerRows> rows;
  std::vector<LayerScores> scores;
  for (size_t layer = 0; layer < c.layers; ++layer) {
    rows.emplace_back(c, sequence.cache, layer);
    LayerObservation observation;
    observation.keys = rows[layer].keys;
    observation.values = rows[layer].values;
    observation.queries = {nullptr, c.query_heads, 0, c.key_dim};
    observation.rotations = rotations;
    observation.layer = layer;
    scores.push_back(score_tokens(observation, options));
  }
  LayerScores mean = scores[0];
  for (size_t i = 0; i < mean.values.size(); ++i) {
    double sum = 0.0;
    for (const LayerScores& layer : scores) sum += double{layer.values[i]};
    mean.values[i] = static_cast<float>(sum / double(c.layers));
  }
  const std::vector<size_t> counts(c.kv_heads, static_cast<size_t>(options.budget));
  for (size_t layer = 0; layer < c.layers; ++layer) {
    const LayerRows& of_layer = rows[layer];
    sequence.cache.gather(layer, of_layer.keys, of_layer.values,
                          select_best(alike ? mean : scores[layer], counts, of_layer.count),
                          of_layer.positions);
  }
}

/// The whole recorded run, with cuts by `cut` after the steps that it had them.
void follow(const GoldenCase& golden, const Model& model, const CompressionOptions& options,
            const std::function<void(Sequence&)>& cut) {
  Answer answer(model, options);
  answer.read(golden.ints("ids"));
  const auto cut_if_due = [&](int32_t step) {
    const auto index = cut_after(golden, step);
    if (!index) return;
    cut(answer.sequence());
    EXPECT_EQ(positions_of(answer.sequence().cache), recorded_cut(golden, *index))
        << "cut " << *index;
  };
  cut_if_due(-1);
  expect_logits(golden, 0, answer.sequence().logits);
  const std::vector<int32_t>& tokens = golden.ints("tokens");
  for (size_t step = 0; step < tokens.size(); ++step) {
    answer.say(tokens[step]);
    expect_logits(golden, step + 1, answer.sequence().logits);
    cut_if_due(static_cast<int32_t>(step));
  }
}

/// A session with the same cuts, up to the last of `cuts` of them.
void follow_in_session(const GoldenCase& golden, const Model& model,
                       const CompressionOptions& compression, size_t cuts) {
  SessionOptions options;
  options.compression = compression;
  options.kv_type = KvType::kF32;
  options.interval = 0;
  Session session(model, options);
  const auto expect_cut = [&](size_t cut) {
    EXPECT_EQ(positions_of(session.cache()), recorded_cut(golden, cut)) << "cut " << cut;
  };
  const std::vector<int32_t>& tokens = golden.ints("tokens");
  session.append(golden.ints("ids"));
  size_t done = 0;
  if (cut_after(golden, -1)) expect_cut(done++);
  for (size_t step = 0; step < tokens.size(); ++step) {
    expect_logits(golden, step + 1, session.append(tokens[step]));
    if (!cut_after(golden, static_cast<int32_t>(step))) continue;
    if (done == cuts) return;
    session.compress();
    expect_cut(done++);
  }
}

TEST(GoldenDecodeTest, CutsWhileAnAnswerIsWrittenEqualTheReference) {
  testing::GoldenTally tally;
  testing::TemporaryFolder folder;
  std::optional<testing::GoldenModel> reference;
  for (GoldenCase& golden : testing::golden_cases()) {
    if (!golden.decodes()) continue;
    SCOPED_TRACE(golden.name());
    golden.load();
    if (!reference) reference.emplace(golden);
    const Model& model = **reference;
    if (golden.family() == "rkv") {
      const CompressionOptions options = rkv_options(golden.params());
      follow(golden, model, options, [&](Sequence& sequence) {
        for (size_t layer = 0; layer < model.config().layers; ++layer) {
          cut_in_score_order(model.config(), sequence, layer, options);
        }
      });
      // The cache of a session is in the order of positions, so later cuts differ.
      follow_in_session(golden, model, options, 1);
    } else {
      ASSERT_EQ(golden.family(), "triattention");
      const CompressionOptions options =
          triattention_options(golden, folder.file("statistics.json"));
      const bool alike = golden.params().at("mode") == "per_head";
      follow(golden, model, options,
             [&](Sequence& sequence) { cut_by_statistics(model, sequence, options, alike); });
      if (!alike) follow_in_session(golden, model, options, golden.ints("cut_steps").size());
    }
    tally.compared(golden.method());
  }
  tally.finish();
}

}  // namespace
}  // namespace restkv
