#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "engine/prefill.h"
#include "restkv/model.h"
#include "restkv/stages.h"

/// For tests of what is observed while prompts are read and repeated.
namespace restkv::testing {

/// Tokens of a vocabulary of 256 without a short period.
inline std::vector<int32_t> text(size_t tokens, size_t seed) {
  std::vector<int32_t> result(tokens);
  for (size_t i = 0; i < tokens; ++i) {
    result[i] = static_cast<int32_t>((i * i * 7 + i * 97 + seed * 31) % 256);
  }
  return result;
}

/// Scores of every layer of a prompt without a window, [layer][cache head][position].
class ScoreSink : public LayerSink {
 public:
  ScoreSink(const Model& model, CompressionOptions options, RepeatPrompt prompt)
      : model_(model), options_(std::move(options)), prompt_(std::move(prompt)) {}

  [[nodiscard]] std::vector<const CompressionOptions*> observed_for() const override {
    return {&options_};
  }
  [[nodiscard]] std::vector<RepeatFeed> feeds(std::span<const int32_t> tokens) const override {
    return repeat_feeds(tokens, repeat_pass(options_), prompt_);
  }
  void take(size_t layer, LayerKv& kv, LayerObserver& observer) override {
    if (model_.config().windows[layer] > 0) return;
    LayerObservation observation = observer.observation(0, layer);
    observation.keys = kv.keys();
    observation.values = kv.values();
    scores.push_back(score_tokens(observation, options_));
  }

  std::vector<LayerScores> scores;

 private:
  const Model& model_;
  CompressionOptions options_;
  RepeatPrompt prompt_;
};

}  // namespace restkv::testing
