// Methods that cut the cache while an answer is written, against recorded runs of a tiny Llama.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
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
#include "restkv/error.h"
#include "restkv/session.h"
#include "support/golden.h"
#include "support/llama_checkpoint.h"
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

/// Cuts a layer as the authors of R-KV do: kept rows stand in falling order of their scores, then
/// come those of the window.
void cut_in_score_order(const ModelConfig& c, Sequence& sequence, size_t layer,
                        const CompressionOptions& options) {
  KvCache& cache = sequence.cache;
  const size_t n = cache.positions(layer, 0).size();
  std::vector<float> k(c.kv_heads * n * c.key_dim), v(c.kv_heads * n * c.value_dim);
  const Heads<float> keys(k.data(), c.kv_heads, n, c.key_dim);
  const Heads<float> values(v.data(), c.kv_heads, n, c.value_dim);
  std::vector<std::vector<int32_t>> positions;
  for (size_t h = 0; h < c.kv_heads; ++h) {
    cache.read(layer, h, keys.head(h), values.head(h));
    const auto held = cache.positions(layer, h);
    positions.emplace_back(held.begin(), held.end());
  }
  LayerObservation observation;
  observation.queries = sequence.layers[layer].queries();
  observation.keys = keys;
  observation.values = values;
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
  cache.gather(layer, keys, values, kept, positions);
}

/// The whole recorded run, with the cache in the authors' order.
void follow_rkv(const GoldenCase& golden, const Model& model) {
  const CompressionOptions options = rkv_options(golden.params());
  Answer answer(model, options);
  answer.read(golden.ints("ids"));
  const auto cut_if_due = [&](int32_t step) {
    const auto cut = cut_after(golden, step);
    if (!cut) return;
    for (size_t layer = 0; layer < model.config().layers; ++layer) {
      cut_in_score_order(model.config(), answer.sequence(), layer, options);
    }
    EXPECT_EQ(positions_of(answer.sequence().cache), recorded_cut(golden, *cut)) << "cut " << *cut;
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

/// A session, whose cache is in the order of positions, up to its second cut.
void follow_rkv_in_a_session(const GoldenCase& golden, const Model& model) {
  SessionOptions options;
  options.compression = rkv_options(golden.params());
  options.kv_type = KvType::kF32;
  options.interval = 0;
  Session session(model, options);
  const std::vector<int32_t>& ids = golden.ints("ids");
  const std::vector<int32_t>& tokens = golden.ints("tokens");
  const std::vector<int32_t>& cuts = golden.ints("cut_steps");
  session.append(ids);
  if (cuts.at(0) == -1) {
    EXPECT_EQ(positions_of(session.cache()), recorded_cut(golden, 0));
  }
  for (int32_t step = 0; step <= cuts.at(1); ++step) {
    const auto logits = session.append(tokens[static_cast<size_t>(step)]);
    expect_logits(golden, static_cast<size_t>(step) + 1, logits);
    if (step != cuts[0]) continue;
    session.compress();
    EXPECT_EQ(positions_of(session.cache()), recorded_cut(golden, 0));
  }
}

TEST(GoldenDecodeTest, CutsWhileAnAnswerIsWrittenEqualTheReference) {
  testing::GoldenTally tally;
  testing::TemporaryFolder folder;
  std::optional<Model> model;
  for (GoldenCase& golden : testing::golden_cases()) {
    if (!golden.decodes()) continue;
    if (golden.family() != "rkv") {
      tally.left_out(golden, "no run of " + golden.family());
      continue;
    }
    SCOPED_TRACE(golden.name());
    golden.load();
    if (!model) {
      const std::string gguf = folder.file("golden.gguf");
      testing::write_checkpoint_as_gguf(golden.input("config.json"), golden.input(".safetensors"),
                                        gguf);
      model.emplace(gguf);
    }
    follow_rkv(golden, *model);
    follow_rkv_in_a_session(golden, *model);
    tally.compared(golden.method());
  }
  tally.finish();
}

}  // namespace
}  // namespace restkv
