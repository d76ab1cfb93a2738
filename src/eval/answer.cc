#include "eval/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <list>
#include <numeric>
#include <optional>
#include <string_view>
#include <utility>

#include "base/text.h"
#include "eval/suites/multiple_choice/choice_tokens.h"
#include "generate/batch.h"
#include "generate/logprobs.h"
#include "restkv/error.h"
#include "restkv/generate.h"

namespace restkv::eval {
namespace {

/// Feeds given tokens and records their probabilities.
class GivenTokens : public TokenSource {
 public:
  explicit GivenTokens(std::span<const int32_t> tokens) : tokens_(tokens) {}

  std::optional<int32_t> next(std::span<const float> logits) override {
    const LogProbabilities p(logits);
    const int32_t token = tokens_[losses_.size()];
    losses_.push_back(-p.of(token));
    greedy_ = greedy_ && p.is_likeliest(token);
    if (losses_.size() == tokens_.size()) return std::nullopt;
    return token;
  }

  [[nodiscard]] const std::vector<double>& losses() const { return losses_; }
  [[nodiscard]] double log_likelihood() const {
    return -std::accumulate(losses_.begin(), losses_.end(), 0.0);
  }
  [[nodiscard]] bool greedy() const { return greedy_; }

 private:
  std::span<const int32_t> tokens_;
  std::vector<double> losses_;
  bool greedy_ = true;
};

/// One token, and what follows it.
class FedToken : public TokenSource {
 public:
  explicit FedToken(int32_t token) : token_(token) {}

  std::optional<int32_t> next(std::span<const float> logits) override {
    if (!fed_) {
      fed_ = true;
      return token_;
    }
    logits_.assign(logits.begin(), logits.end());
    return std::nullopt;
  }

  [[nodiscard]] std::span<const float> logits() const { return logits_; }

 private:
  int32_t token_;
  bool fed_ = false;
  std::vector<float> logits_;
};

std::span<const float> of_cache(AfterPrompt logits, size_t cache) {
  return logits[logits.size() == 1 ? 0 : cache];
}

/// The generated text, with U+FFFD for an incomplete character.
std::string text_of(const GenerationResult& result) { return replace_invalid_utf8(result.bytes); }

}  // namespace

ChoiceSet choice_set(const Tokenizer& tokenizer, const Sample& sample,
                     const PromptOptions& options) {
  ChoiceSet set;
  size_t longest = 0;
  for (const std::string& choice : sample.choices) {
    ChoiceTokens tokens = split_choice(tokenizer, sample.prompt + sample.answer_prefix, choice);
    if (set.continuations.empty()) {
      set.context = std::move(tokens.context);
    } else if (set.context != tokens.context) {
      throw Error(ErrorCode::kInput,
                  fmt::format("choice {} (\"{}\") does not share the tokens of its context with "
                              "the others; begin all choices with the same white space",
                              set.continuations.size(), choice));
    }
    longest = std::max(longest, tokens.continuation.size());
    set.continuations.push_back(std::move(tokens.continuation));
  }
  if (set.continuations.empty()) throw Error(ErrorCode::kInput, "the sample has no choices");
  if (options.choices_with_bos && set.context.front() != tokenizer.prefix_token()) {
    set.context.insert(set.context.begin(), tokenizer.prefix_token());
  }
  if (options.context > 0 && set.context.size() + longest > options.context) {
    if (longest >= options.context) {
      throw Error(ErrorCode::kInput, fmt::format("a choice of {} tokens does not fit into the "
                                                 "model's context of {}",
                                                 longest, options.context));
    }
    const size_t room = options.context - longest;
    set.context.erase(set.context.begin(), set.context.end() - static_cast<std::ptrdiff_t>(room));
  }
  return set;
}

void hold_back(ChoiceSet& choices) {
  if (choices.context.size() < 2) return;
  choices.held_back = choices.context.back();
  choices.context.pop_back();
}

Answerer::Answerer(const Tokenizer& tokenizer, Engine& engine, std::function<bool()> interrupted)
    : tokenizer_(tokenizer), engine_(engine), interrupted_(std::move(interrupted)) {
  const std::vector<int32_t> newline = tokenizer.encode("\n", false, false);
  if (!newline.empty()) newline_ = newline.back();
}

GenerationOptions Answerer::options_of(const Sample& sample, uint32_t seed) const {
  GenerationOptions options;
  options.max_tokens = sample.max_new_tokens;
  options.min_tokens = std::min(sample.min_new_tokens, sample.max_new_tokens);
  options.stop = sample.stops;
  if (sample.stop_at_newline_token && newline_ >= 0) options.last_tokens = {newline_};
  options.sampling = sample.sampling;
  options.sampling.seed = seed;
  return options;
}

/// A continuation of a cache.
struct Answerer::Line {
  TokenSource* source;
  std::span<const float> logits;  ///< After the tokens of the cache.
  KvCache* cache;
  bool last_of_cache;  ///< Earlier lines of the cache use copies.
  TimedAnswer* timed;
};

void Answerer::finish(std::span<Line> lines, const AnswerProgress& progress) {
  /// Limit of memory for copies of caches; above it, lines wait for earlier ones.
  constexpr size_t kMostCopied = size_t{1} << 30;
  std::vector<std::optional<KvCache>> copies(lines.size());
  size_t begun = 0;
  size_t copied = 0;
  const auto cache = [&](size_t i) { return copies[i] ? &*copies[i] : lines[i].cache; };
  const auto copied_bytes = [&](size_t i) {
    return lines[i].last_of_cache ? 0 : lines[i].cache->kept_bytes();
  };
  std::vector<KvCache*> caches;
  Batch batch(
      [&](std::span<const int32_t> tokens, std::span<const size_t> members) {
        caches.clear();
        for (const size_t i : members) caches.push_back(cache(i));
        return engine_.decode(tokens, caches);
      },
      [&](size_t i, const Batch::Cost& cost) {
        lines[i].timed->decode_seconds += cost.seconds;
        lines[i].timed->decode_steps += cost.steps;
        if (copies[i]) copied -= copied_bytes(i);
        copies[i].reset();
      });
  const auto begin_more = [&] {
    while (begun < lines.size() && batch.size() < Engine::kMaxBatch) {
      const Line& line = lines[begun];
      const size_t bytes = copied_bytes(begun);
      if (!batch.empty() && copied + bytes > kMostCopied) return;
      if (!line.last_of_cache) copies[begun] = *line.cache;
      copied += bytes;
      batch.join(begun++, *line.source, line.logits);
    }
  };
  for (begin_more(); !batch.empty(); begin_more()) {
    if (interrupted_ && interrupted_()) throw Error(ErrorCode::kInterrupted, "interrupted");
    batch.step();
    if (progress) {
      progress(static_cast<double>(begun - batch.size()) / static_cast<double>(lines.size()));
    }
  }
}

SampledText Answerer::draw(const Sample& sample, uint32_t seed, std::span<const float> logits,
                           const std::function<std::span<const float>(int32_t token)>& feed) const {
  const GenerationResult result =
      restkv::generate(feed, logits, tokenizer_, options_of(sample, seed));
  SampledText sampled{.text = text_of(result), .pending = {}};
  if (result.last_token_is_pending) sampled.pending = result.tokens.back();
  return sampled;
}

std::vector<TimedAnswer> Answerer::generate(const Sample& sample, AfterPrompt logits,
                                            std::span<KvCache> caches,
                                            const AnswerProgress& progress) {
  std::vector<TimedAnswer> answers(caches.size());
  std::list<Generation> texts;
  std::vector<Line> lines;
  for (size_t i = 0; i < caches.size(); ++i) {
    for (size_t draw = 0; draw < sample.draws; ++draw) {
      const auto seed = sample.sampling.seed + static_cast<uint32_t>(draw);
      lines.push_back({&texts.emplace_back(tokenizer_, options_of(sample, seed)),
                       of_cache(logits, i), &caches[i], draw + 1 == sample.draws, &answers[i]});
    }
  }
  finish(lines, progress);
  auto text = texts.begin();
  for (TimedAnswer& timed : answers) {
    timed.answer.text = text_of((text++)->result());
    for (size_t draw = 1; draw < sample.draws; ++draw) {
      timed.answer.more_texts.push_back(text_of((text++)->result()));
    }
  }
  return answers;
}

std::vector<TimedAnswer> Answerer::choose(const ChoiceSet& choices, AfterPrompt logits,
                                          std::span<KvCache> caches,
                                          const AnswerProgress& progress) {
  std::vector<TimedAnswer> answers(caches.size());
  std::vector<FedToken> fed;
  if (choices.held_back) fed.assign(caches.size(), FedToken(*choices.held_back));
  std::vector<Line> lines;
  for (size_t i = 0; i < fed.size(); ++i) {
    lines.push_back({&fed[i], of_cache(logits, i), &caches[i], true, &answers[i]});
  }
  finish(lines, {});
  lines.clear();
  std::list<GivenTokens> given;
  for (size_t i = 0; i < caches.size(); ++i) {
    for (const std::vector<int32_t>& choice : choices.continuations) {
      lines.push_back({&given.emplace_back(choice),
                       fed.empty() ? of_cache(logits, i) : fed[i].logits(), &caches[i],
                       &choice == &choices.continuations.back(), &answers[i]});
    }
  }
  finish(lines, progress);
  for (auto line = given.begin(); TimedAnswer & timed : answers) {
    for (size_t i = 0; i < choices.continuations.size(); ++i, ++line) {
      timed.answer.log_likelihoods.push_back(line->log_likelihood());
      timed.answer.greedy.push_back(line->greedy() ? 1 : 0);
    }
  }
  return answers;
}

TimedAnswer Answerer::choose_jointly(const ChoiceSet& choices) {
  TimedAnswer timed;
  for (const std::vector<int32_t>& choice : choices.continuations) {
    std::vector<int32_t> whole = choices.context;
    whole.insert(whole.end(), choice.begin(), choice.end());
    whole.pop_back();  // nothing is asked of what follows the last token
    const size_t first_predicting = choices.context.size() - 1;
    GivenTokens line(choice);
    engine_.score(
        whole,
        [&](size_t first, Matrix<const float> logits) {
          for (size_t r = 0; r < logits.rows; ++r) {
            if (first + r >= first_predicting) line.next(logits.row_span(r));
          }
        },
        [&](double) { return !interrupted_ || !interrupted_(); });
    timed.answer.log_likelihoods.push_back(line.log_likelihood());
    timed.answer.greedy.push_back(line.greedy() ? 1 : 0);
  }
  return timed;
}

std::vector<TimedAnswer> Answerer::follow(const Sample& sample, AfterPrompt logits,
                                          std::span<KvCache> caches,
                                          const AnswerProgress& progress) {
  const size_t vocabulary = logits.front().size();
  for (size_t i = 0; i < sample.continuation.size(); ++i) {
    const int32_t token = sample.continuation[i];
    if (token < 0 || static_cast<size_t>(token) >= vocabulary) {
      throw Error(ErrorCode::kInput,
                  fmt::format("token {} of the continuation is {}, outside the model's vocabulary "
                              "of {}",
                              i, token, vocabulary));
    }
  }
  std::vector<TimedAnswer> answers(caches.size());
  std::list<GivenTokens> given;
  std::vector<Line> lines;
  for (size_t i = 0; i < caches.size() && !sample.continuation.empty(); ++i) {
    lines.push_back({&given.emplace_back(sample.continuation), of_cache(logits, i), &caches[i],
                     true, &answers[i]});
  }
  finish(lines, progress);
  for (size_t i = 0; const GivenTokens& line : given) {
    answers[i++].answer.token_losses = line.losses();
  }
  return answers;
}

}  // namespace restkv::eval
