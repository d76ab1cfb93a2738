#include "eval/answer.h"

#include <fmt/format.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

#include "eval/suites/choice_tokens.h"
#include "restkv/error.h"
#include "restkv/sampler.h"

namespace restkv::eval {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Logarithms of the probabilities of single tokens.
class LogProbabilities {
 public:
  explicit LogProbabilities(std::span<const float> logits) : logits_(logits) {
    const double largest = *std::ranges::max_element(logits);
    double sum = 0;
    for (const float z : logits) sum += std::exp(static_cast<double>(z) - largest);
    log_sum_ = largest + std::log(sum);
  }
  [[nodiscard]] double of(int32_t token) const {
    return static_cast<double>(logits_[static_cast<size_t>(token)]) - log_sum_;
  }
  /// Whether no other token is more likely.
  [[nodiscard]] bool most_likely(int32_t token) const {
    return *std::ranges::max_element(logits_) <= logits_[static_cast<size_t>(token)];
  }

 private:
  std::span<const float> logits_;
  double log_sum_ = 0;
};

/// Where the first of `stops` begins in `text`, looking from `from` on.
size_t first_stop(std::string_view text, const std::vector<std::string>& stops, size_t from) {
  size_t first = std::string_view::npos;
  for (const std::string& stop : stops) first = std::min(first, text.find(stop, from));
  return first;
}

/// Bytes that are not UTF-8 become U+FFFD: a text may end within a character.
std::string valid_utf8(std::string_view bytes) {
  std::string text;
  return icu::UnicodeString::fromUTF8({bytes.data(), static_cast<int32_t>(bytes.size())})
      .toUTF8String(text);
}

}  // namespace

ChoiceSet choice_set(const Tokenizer& tokenizer, const Sample& sample, size_t model_context) {
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
  if (model_context > 0 && set.context.size() + longest > model_context) {
    if (longest >= model_context) {
      throw Error(ErrorCode::kInput, fmt::format("a choice of {} tokens does not fit into the "
                                                 "model's context of {}",
                                                 longest, model_context));
    }
    const size_t room = model_context - longest;
    set.context.erase(set.context.begin(), set.context.end() - static_cast<std::ptrdiff_t>(room));
  }
  return set;
}

Answerer::Answerer(const Tokenizer& tokenizer, Engine& engine, std::function<bool()> interrupted)
    : tokenizer_(tokenizer), engine_(engine), interrupted_(std::move(interrupted)) {
  for (size_t token = 0; token < tokenizer.vocabulary(); ++token) {
    if (tokenizer.is_end(static_cast<int32_t>(token))) {
      end_tokens_.push_back(static_cast<int32_t>(token));
    }
  }
  const std::vector<int32_t> newline = tokenizer.encode("\n", false, false);
  if (!newline.empty()) newline_ = newline.back();
}

std::span<const float> Answerer::decode(int32_t token, KvCache& cache, TimedAnswer& timed) {
  if (interrupted_ && interrupted_()) throw Error(ErrorCode::kInterrupted, "interrupted");
  const auto start = Clock::now();
  const std::span<const float> logits = engine_.decode(token, cache);
  timed.decode_seconds += seconds_since(start);
  ++timed.decode_steps;
  return logits;
}

Draw Answerer::draw(const Sample& sample, uint32_t seed, std::span<const float> logits,
                    const std::function<std::span<const float>(int32_t token)>& feed) const {
  SamplingOptions sampling = sample.sampling;
  sampling.seed = seed;
  Sampler sampler(sampling, logits.size());
  size_t longest_stop = 1;
  for (const std::string& stop : sample.stops) longest_stop = std::max(longest_stop, stop.size());

  Draw result;
  std::string& text = result.text;
  std::vector<float> allowed;
  for (size_t count = 0; count < sample.max_new_tokens;) {
    if (count < sample.min_new_tokens) {
      allowed.assign(logits.begin(), logits.end());
      const auto forbid = [&](int32_t token) {
        allowed[static_cast<size_t>(token)] = -std::numeric_limits<float>::infinity();
      };
      std::ranges::for_each(end_tokens_, forbid);
      if (sample.stop_at_newline_token && newline_ >= 0) forbid(newline_);
      logits = allowed;
    }
    const int32_t token = sampler.sample(logits);
    result.unfed.reset();
    if (tokenizer_.is_end(token)) break;
    result.unfed = token;
    const size_t unseen = text.size() - std::min(text.size(), longest_stop - 1);
    text += tokenizer_.piece(token);
    ++count;
    const size_t stop = first_stop(text, sample.stops, unseen);
    if (stop != std::string::npos) {
      text.resize(stop);
      break;
    }
    if (sample.stop_at_newline_token && token == newline_) break;
    if (count < sample.max_new_tokens) logits = feed(token);
  }
  text = valid_utf8(text);
  return result;
}

TimedAnswer Answerer::generate(const Sample& sample, std::span<const float> logits, KvCache cache) {
  TimedAnswer timed;
  const auto draw_on = [&](KvCache& own, uint32_t seed) {
    return draw(sample, seed, logits, [&](int32_t token) { return decode(token, own, timed); })
        .text;
  };
  for (size_t i = 0; i + 1 < sample.draws; ++i) {
    KvCache copy = cache;
    timed.answer.more_texts.push_back(
        draw_on(copy, sample.sampling.seed + static_cast<uint32_t>(i + 1)));
  }
  timed.answer.text = draw_on(cache, sample.sampling.seed);
  return timed;
}

TimedAnswer Answerer::choose(const ChoiceSet& choices, std::span<const float> logits,
                             const KvCache& cache) {
  TimedAnswer timed;
  for (const std::vector<int32_t>& choice : choices.continuations) {
    std::optional<KvCache> copy;
    if (choice.size() > 1) copy = cache;
    double sum = 0;
    bool greedy = true;
    std::span<const float> after = logits;
    for (size_t i = 0; i < choice.size(); ++i) {
      const LogProbabilities p(after);
      sum += p.of(choice[i]);
      greedy = greedy && p.most_likely(choice[i]);
      if (i + 1 < choice.size()) after = decode(choice[i], *copy, timed);
    }
    timed.answer.log_likelihoods.push_back(sum);
    timed.answer.greedy.push_back(greedy ? 1 : 0);
  }
  return timed;
}

TimedAnswer Answerer::choose_jointly(const ChoiceSet& choices) {
  TimedAnswer timed;
  for (const std::vector<int32_t>& choice : choices.continuations) {
    std::vector<int32_t> whole = choices.context;
    whole.insert(whole.end(), choice.begin(), choice.end());
    whole.pop_back();  // nothing is asked of what follows the last token
    const size_t first_predicting = choices.context.size() - 1;
    double sum = 0;
    bool greedy = true;
    engine_.score(
        whole,
        [&](size_t first, Matrix<const float> logits) {
          for (size_t r = 0; r < logits.rows; ++r) {
            if (first + r < first_predicting) continue;
            const int32_t token = choice[first + r - first_predicting];
            const LogProbabilities p({logits.row(r), logits.cols});
            sum += p.of(token);
            greedy = greedy && p.most_likely(token);
          }
        },
        [&](double) { return !interrupted_ || !interrupted_(); });
    timed.answer.log_likelihoods.push_back(sum);
    timed.answer.greedy.push_back(greedy ? 1 : 0);
  }
  return timed;
}

TimedAnswer Answerer::follow(const Sample& sample, std::span<const float> logits, KvCache cache) {
  TimedAnswer timed;
  for (size_t i = 0; i < sample.continuation.size(); ++i) {
    const int32_t token = sample.continuation[i];
    if (token < 0 || static_cast<size_t>(token) >= logits.size()) {
      throw Error(ErrorCode::kInput,
                  fmt::format("token {} of the continuation is {}, outside the model's vocabulary "
                              "of {}",
                              i, token, logits.size()));
    }
    timed.answer.token_losses.push_back(-LogProbabilities(logits).of(token));
    if (i + 1 < sample.continuation.size()) logits = decode(token, cache, timed);
  }
  return timed;
}

}  // namespace restkv::eval
