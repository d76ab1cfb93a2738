#include "restkv/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "generate/batch.h"
#include "generate/logprobs.h"
#include "generate/token_text.h"
#include "restkv/error.h"

namespace restkv {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();
constexpr const char* kNoneLeft =
    "no token may follow: biases, min_tokens and the constraint forbid all; relax one of them";

void require(bool ok, const std::string& message) {
  if (!ok) throw Error(ErrorCode::kInvalidArgument, message);
}

void require_token(int32_t token, size_t vocabulary, std::string_view where) {
  require(token >= 0 && static_cast<size_t>(token) < vocabulary,
          fmt::format("token {} of {} is outside the vocabulary of {}", token, where, vocabulary));
}

}  // namespace

void validate(const GenerationOptions& o, size_t vocabulary) {
  validate(o.sampling);
  require(o.min_tokens <= o.max_tokens,
          fmt::format("min_tokens is {}; expected no more than max_tokens, {}", o.min_tokens,
                      o.max_tokens));
  for (const std::string& stop : o.stop) require(!stop.empty(), "an empty stop ends every text");
  for (const int32_t token : o.last_tokens) require_token(token, vocabulary, "last_tokens");
  for (const auto& [token, bias] : o.logit_bias) {
    require_token(token, vocabulary, "logit_bias");
    require(std::isfinite(bias) || bias == kForbidden,
            fmt::format("the bias of token {} is {}; expected a number, or minus infinity", token,
                        bias));
  }
  require(!o.logprobs || *o.logprobs <= vocabulary,
          fmt::format("logprobs is {}; expected no more than the vocabulary, {}",
                      o.logprobs.value_or(0), vocabulary));
}

struct Generation::Impl {
  Impl(const Tokenizer& t, GenerationOptions o, Sampler* s)
      : tokenizer(t), options(std::move(o)), sampler(s), text(options.stop) {
    validate(options, tokenizer.vocabulary());
  }

  /// Logits after biases and forbidden tokens, before the constraint.
  std::span<const float> allowed(std::span<const float> logits) {
    const bool may_end = result.tokens.size() >= options.min_tokens;
    if (may_end && options.logit_bias.empty()) return logits;
    changed.assign(logits.begin(), logits.end());
    for (const auto& [token, bias] : options.logit_bias)
      changed[static_cast<size_t>(token)] += bias;
    if (!may_end) {
      for (const int32_t token : tokenizer.end_tokens())
        changed[static_cast<size_t>(token)] = kForbidden;
      for (const int32_t token : options.last_tokens) {
        changed[static_cast<size_t>(token)] = kForbidden;
      }
    }
    return changed;
  }

  /// A token that the constraint lets through. To ask it about all takes long, and most of the time
  /// the one that would be said anyway is among them. If it is not, drawing once more among all
  /// that are gives each the probability it has there.
  int32_t constrained(std::span<const float> candidates) {
    const int32_t first = sampler->pick(candidates);
    if (candidates[static_cast<size_t>(first)] != kForbidden && options.constraint->allows(first)) {
      return first;
    }
    if (candidates.data() != changed.data()) changed.assign(candidates.begin(), candidates.end());
    options.constraint->apply(changed);
    const int32_t token = sampler->pick(changed);
    require(changed[static_cast<size_t>(token)] != kForbidden, kNoneLeft);
    return token;
  }

  int32_t sample(std::span<const float> logits) {
    require(logits.size() == tokenizer.vocabulary(),
            fmt::format("{} logits are not those of the tokenizer's vocabulary of {}",
                        logits.size(), tokenizer.vocabulary()));
    if (sampler == nullptr) sampler = &own.emplace(options.sampling, logits.size());
    const std::span<const float> candidates = allowed(logits);
    const int32_t token =
        options.constraint == nullptr ? sampler->pick(candidates) : constrained(candidates);
    require(candidates[static_cast<size_t>(token)] != kForbidden, kNoneLeft);
    sampler->remember(token);
    return token;
  }

  std::nullopt_t finish(FinishReason reason, bool pending) {
    finished = true;
    result.finish_reason = reason;
    result.last_token_is_pending = pending;
    const std::string rest = text.end();
    if (reason == FinishReason::kCancelled) {
      result.text += rest;
    } else if (!rest.empty()) {
      hand_out(rest);
    }
    result.bytes = text.bytes();
    return std::nullopt;
  }

  /// Returns false if `on_text` ends the generation.
  bool hand_out(const std::string& piece) {
    result.text += piece;
    return !options.on_text || options.on_text(piece);
  }

  const Tokenizer& tokenizer;
  GenerationOptions options;
  Sampler* sampler;
  std::optional<Sampler> own;
  TokenText text;
  GenerationResult result;
  bool finished = false;
  std::vector<float> changed;
};

Generation::Generation(const Tokenizer& tokenizer, GenerationOptions options, Sampler* sampler)
    : impl_(std::make_unique<Impl>(tokenizer, std::move(options), sampler)) {}
Generation::~Generation() = default;
Generation::Generation(Generation&&) noexcept = default;
Generation& Generation::operator=(Generation&&) noexcept = default;

std::optional<int32_t> Generation::next(std::span<const float> logits) {
  Impl& g = *impl_;
  GenerationResult& result = g.result;
  if (g.finished) return std::nullopt;
  if (result.tokens.size() >= g.options.max_tokens) return g.finish(FinishReason::kLength, false);
  const int32_t token = g.sample(logits);
  if (g.options.constraint != nullptr) g.options.constraint->accept(token);
  if (g.tokenizer.is_end(token)) return g.finish(FinishReason::kStop, false);
  result.tokens.push_back(token);
  if (g.options.logprobs) result.logprobs.push_back(logprob_of(token, logits, *g.options.logprobs));
  const auto& written = g.options.written_tokens;
  const bool is_written = std::ranges::find(written, token) != written.end();
  if (!g.hand_out(g.text.push(g.tokenizer.piece(token, is_written)))) {
    return g.finish(FinishReason::kCancelled, true);
  }
  if (g.text.stopped() ||
      std::ranges::find(g.options.last_tokens, token) != g.options.last_tokens.end()) {
    return g.finish(FinishReason::kStop, true);
  }
  if (result.tokens.size() == g.options.max_tokens) return g.finish(FinishReason::kLength, true);
  return token;
}

const GenerationResult& Generation::result() const { return impl_->result; }

GenerationResult generate(const DecodeToken& decode, std::span<const float> logits,
                          const Tokenizer& tokenizer, const GenerationOptions& options,
                          Sampler* sampler) {
  Generation generation(tokenizer, options, sampler);
  Batch::Cost cost;
  Batch batch(
      [&](std::span<const int32_t> tokens, std::span<const size_t> /*members*/) {
        const std::span<const float> after = decode(tokens.front());
        return Matrix<const float>(after.data(), 1, after.size());
      },
      [&](size_t /*member*/, const Batch::Cost& all) { cost = all; });
  batch.join(0, generation, logits);
  while (!batch.empty()) batch.step();
  GenerationResult result = generation.result();
  result.seconds = cost.seconds;
  result.steps = cost.steps;
  return result;
}

GenerationResult generate(Session& session, const Tokenizer& tokenizer,
                          const GenerationOptions& options, Sampler* sampler) {
  if (session.tokens() == 0) {
    throw Error(ErrorCode::kInvalidArgument,
                "nothing has been read that a text could follow; append a prompt first");
  }
  return generate([&](int32_t token) { return session.append(token); }, session.logits(), tokenizer,
                  options, sampler);
}

}  // namespace restkv
