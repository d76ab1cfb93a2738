#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "eval/prompt_tokens.h"
#include "eval/suite.h"
#include "restkv/engine.h"
#include "restkv/generate.h"
#include "restkv/kv_cache.h"
#include "restkv/tokenizer.h"

namespace restkv::eval {

/// The choices of a kChoose sample as tokens: one context, a continuation for each.
struct ChoiceSet {
  std::vector<int32_t> context;
  /// Follows the context, but is fed to the compressed cache.
  std::optional<int32_t> held_back = std::nullopt;
  std::vector<std::vector<int32_t>> continuations;
};

/// Throws `Error`: kInput (a choice without tokens, choices that share no context). A context that
/// leaves no room for the longest choice within `options.context` tokens (0: any number) loses its
/// beginning.
ChoiceSet choice_set(const Tokenizer& tokenizer, const Sample& sample,
                     const PromptOptions& options);

/// Moves the last token of the context to `held_back`, if the context has others.
void hold_back(ChoiceSet& choices);

/// An answer and what it cost.
struct TimedAnswer {
  Answer answer;
  double decode_seconds = 0;
  size_t decode_steps = 0;
};

/// A text that a model wrote, token by token.
struct SampledText {
  std::string text;
  /// Its last token, if the text ended there by itself and not by an end token: the cache has not
  /// seen it.
  std::optional<int32_t> pending;
};

/// Share of the answers done, 0 to 1.
using AnswerProgress = std::function<void(double)>;

/// Answers samples on caches that one prefill has filled: `logits` are those after the prompt. All
/// caches are decoded together, each giving what it would give alone, and are used up. An answer's
/// time is its share of that of the steps it took part in. Functions throw like `Engine::decode`.
class Answerer {
 public:
  /// `interrupted` is asked before every step; once it says yes, calls throw Error(kInterrupted).
  Answerer(const Tokenizer& tokenizer, Engine& engine, std::function<bool()> interrupted);

  /// Texts for a kGenerate sample: the most likely token (or what `Sample::sampling` draws) until
  /// an end token, a stop, the newline token where it ends the text, or `max_new_tokens`.
  std::vector<TimedAnswer> generate(const Sample& sample, std::span<const float> logits,
                                    std::span<KvCache> caches, const AnswerProgress& progress = {});

  /// One such text on a cache that only `feed` knows: it appends a token and returns the logits
  /// after it.
  SampledText draw(const Sample& sample, uint32_t seed, std::span<const float> logits,
                   const std::function<std::span<const float>(int32_t token)>& feed) const;

  /// Log-likelihoods of the choices: the first token of each is predicted by `logits` or, if there
  /// is one, by the token held back, the others on the cache; every choice begins with the same
  /// cache.
  std::vector<TimedAnswer> choose(const ChoiceSet& choices, std::span<const float> logits,
                                  std::span<KvCache> caches, const AnswerProgress& progress = {});

  /// The same, each choice in one prefill with its context: no compressed cache is ever read.
  TimedAnswer choose_jointly(const ChoiceSet& choices);

  /// Losses of a kContinue sample's tokens, each fed to the cache after it was predicted.
  std::vector<TimedAnswer> follow(const Sample& sample, std::span<const float> logits,
                                  std::span<KvCache> caches, const AnswerProgress& progress = {});

 private:
  struct Line;

  [[nodiscard]] GenerationOptions options_of(const Sample& sample, uint32_t seed) const;
  /// Carries all lines to their ends.
  void finish(std::span<Line> lines, const AnswerProgress& progress);

  const Tokenizer& tokenizer_;
  Engine& engine_;
  std::function<bool()> interrupted_;
  int32_t newline_ = -1;
};

}  // namespace restkv::eval
