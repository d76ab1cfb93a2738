#include "eval/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <list>
#include <memory>
#include <numeric>
#include <optional>
#include <string_view>
#include <utility>

#include "base/text.h"
#include "eval/suites/choice_tokens.h"
#include "generate/logprobs.h"
#include "restkv/error.h"
#include "restkv/generate.h"

namespace restkv::eval {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Tokens that are given: how likely was each of them?
class GivenTokens : public Line {
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

/// What was written, with U+FFFD for a character that never ended.
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

/// A text being written.
class Answerer::Text : public Line {
 public:
  Text(const Answerer& answerer, const Sample& sample, uint32_t seed)
      : generation_(answerer.tokenizer_, answerer.options_of(sample, seed)) {}

  std::optional<int32_t> next(std::span<const float> logits) override {
    return generation_.next(logits);
  }

  [[nodiscard]] const GenerationResult& result() const { return generation_.result(); }

 private:
  Generation generation_;
};

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

/// A line and the cache it goes on.
struct Answerer::Work {
  Line* line;
  std::span<const float> logits;  ///< After what the cache holds.
  KvCache* cache;
  bool last_of_cache;  ///< The lines before it go on copies.
  TimedAnswer* timed;
};

void Answerer::finish(std::span<Work> works, const AnswerProgress& progress) {
  /// Copies of long caches would need much memory: then lines wait for those before them.
  constexpr size_t kMostCopied = size_t{1} << 30;
  struct Active {
    const Work* work;
    std::optional<KvCache> copy;
    size_t copied;
    int32_t token;
  };
  std::list<Active> active;
  size_t begun = 0;
  size_t copied = 0;
  const auto begin_more = [&] {
    while (begun < works.size() && active.size() < Engine::kMaxBatch) {
      const Work& work = works[begun];
      const size_t bytes = work.last_of_cache ? 0 : work.cache->kept_bytes();
      if (!active.empty() && copied + bytes > kMostCopied) return;
      ++begun;
      const std::optional<int32_t> token = work.line->next(work.logits);
      if (!token) continue;
      active.push_back({&work, std::nullopt, bytes, *token});
      if (!work.last_of_cache) active.back().copy = *work.cache;
      copied += bytes;
    }
  };
  std::vector<int32_t> tokens;
  std::vector<KvCache*> caches;
  for (begin_more(); !active.empty(); begin_more()) {
    if (interrupted_ && interrupted_()) throw Error(ErrorCode::kInterrupted, "interrupted");
    tokens.clear();
    caches.clear();
    for (Active& one : active) {
      tokens.push_back(one.token);
      caches.push_back(one.copy ? &*one.copy : one.work->cache);
    }
    const auto start = Clock::now();
    const Matrix<const float> after = engine_.decode(tokens, caches);
    const double share = seconds_since(start) / static_cast<double>(active.size());
    size_t row = 0;
    for (auto one = active.begin(); one != active.end(); ++row) {
      one->work->timed->decode_seconds += share;
      ++one->work->timed->decode_steps;
      if (const auto token = one->work->line->next(after.row_span(row))) {
        one->token = *token;
        ++one;
        continue;
      }
      copied -= one->copied;
      one = active.erase(one);
    }
    if (progress) {
      progress(static_cast<double>(begun - active.size()) / static_cast<double>(works.size()));
    }
  }
}

std::vector<std::vector<float>> Answerer::feed(int32_t token, std::span<KvCache> caches,
                                               std::span<TimedAnswer> answers) {
  std::vector<std::vector<float>> logits;
  std::vector<KvCache*> together;
  for (size_t first = 0; first < caches.size(); first += together.size()) {
    if (interrupted_ && interrupted_()) throw Error(ErrorCode::kInterrupted, "interrupted");
    together.clear();
    for (size_t i = first; i < std::min(first + Engine::kMaxBatch, caches.size()); ++i) {
      together.push_back(&caches[i]);
    }
    const auto start = Clock::now();
    const Matrix<const float> after =
        engine_.decode(std::vector<int32_t>(together.size(), token), together);
    const double share = seconds_since(start) / static_cast<double>(together.size());
    for (size_t row = 0; row < together.size(); ++row) {
      const std::span<const float> of_cache = after.row_span(row);
      logits.emplace_back(of_cache.begin(), of_cache.end());
      answers[first + row].decode_seconds += share;
      ++answers[first + row].decode_steps;
    }
  }
  return logits;
}

Draw Answerer::draw(const Sample& sample, uint32_t seed, std::span<const float> logits,
                    const std::function<std::span<const float>(int32_t token)>& feed) const {
  const GenerationResult result =
      restkv::generate(feed, logits, tokenizer_, options_of(sample, seed));
  Draw draw{.text = text_of(result), .unfed = {}};
  if (result.last_token_is_pending) draw.unfed = result.tokens.back();
  return draw;
}

std::vector<TimedAnswer> Answerer::generate(const Sample& sample, std::span<const float> logits,
                                            std::span<KvCache> caches,
                                            const AnswerProgress& progress) {
  std::vector<TimedAnswer> answers(caches.size());
  std::list<Text> texts;
  std::vector<Work> works;
  for (size_t i = 0; i < caches.size(); ++i) {
    for (size_t draw = 0; draw < sample.draws; ++draw) {
      const auto seed = sample.sampling.seed + static_cast<uint32_t>(draw);
      works.push_back({&texts.emplace_back(*this, sample, seed), logits, &caches[i],
                       draw + 1 == sample.draws, &answers[i]});
    }
  }
  finish(works, progress);
  auto text = texts.begin();
  for (TimedAnswer& timed : answers) {
    timed.answer.text = text_of((text++)->result());
    for (size_t draw = 1; draw < sample.draws; ++draw) {
      timed.answer.more_texts.push_back(text_of((text++)->result()));
    }
  }
  return answers;
}

std::vector<TimedAnswer> Answerer::choose(const ChoiceSet& choices, std::span<const float> logits,
                                          std::span<KvCache> caches,
                                          const AnswerProgress& progress) {
  std::vector<TimedAnswer> answers(caches.size());
  std::vector<std::vector<float>> after_held_back;
  if (choices.held_back) after_held_back = feed(*choices.held_back, caches, answers);
  std::list<GivenTokens> lines;
  std::vector<Work> works;
  for (size_t i = 0; i < caches.size(); ++i) {
    if (choices.held_back) logits = after_held_back[i];
    for (const std::vector<int32_t>& choice : choices.continuations) {
      works.push_back({&lines.emplace_back(choice), logits, &caches[i],
                       &choice == &choices.continuations.back(), &answers[i]});
    }
  }
  finish(works, progress);
  for (auto line = lines.begin(); TimedAnswer & timed : answers) {
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

std::vector<TimedAnswer> Answerer::follow(const Sample& sample, std::span<const float> logits,
                                          std::span<KvCache> caches,
                                          const AnswerProgress& progress) {
  for (size_t i = 0; i < sample.continuation.size(); ++i) {
    const int32_t token = sample.continuation[i];
    if (token < 0 || static_cast<size_t>(token) >= logits.size()) {
      throw Error(ErrorCode::kInput,
                  fmt::format("token {} of the continuation is {}, outside the model's vocabulary "
                              "of {}",
                              i, token, logits.size()));
    }
  }
  std::vector<TimedAnswer> answers(caches.size());
  std::list<GivenTokens> lines;
  std::vector<Work> works;
  for (size_t i = 0; i < caches.size() && !sample.continuation.empty(); ++i) {
    works.push_back(
        {&lines.emplace_back(sample.continuation), logits, &caches[i], true, &answers[i]});
  }
  finish(works, progress);
  for (size_t i = 0; i < works.size(); ++i) {
    answers[i].answer.token_losses =
        std::next(lines.begin(), static_cast<std::ptrdiff_t>(i))->losses();
  }
  return answers;
}

}  // namespace restkv::eval
