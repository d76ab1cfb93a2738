#pragma once

#include <cstddef>
#include <limits>
#include <optional>

#include "restkv/budget.h"
#include "restkv/sampler.h"
#include "restkv/session.h"

namespace restkv::server {

/// How a cache is to be made, before the length of its prompt is known.
struct AskedSession {
  SessionOptions options;
  /// Of the prompt, in place of the options' budget.
  std::optional<Budget> share = {};
};

/// What the operator and the model allow a request, and what it gets where it does not say.
struct RequestLimits {
  size_t choices = 8;        ///< Answers to one prompt (`n`).
  size_t prompts = 128;      ///< Of one completion.
  size_t stops = 16;         ///< Stop texts.
  size_t stop_bytes = 1024;  ///< Of one of them.
  size_t messages = 10'000;  ///< Of a chat.
  size_t tools = 128;
  size_t logprobs = 20;                                     ///< Likeliest tokens beside each token.
  size_t echoed_logprobs = size_t{1} << 20U;                ///< Of all prompts of a completion.
  size_t grammar_bytes = 64 * 1024;                         ///< Of a grammar, or of a schema.
  size_t vocabulary = 0;                                    ///< Token ids are below it.
  size_t context = 0;                                       ///< Tokens of the model; for messages.
  size_t max_tokens = std::numeric_limits<int32_t>::max();  ///< Of one answer.
  size_t default_max_tokens = std::numeric_limits<int32_t>::max();  ///< Of a chat's answer.
  int max_budget = std::numeric_limits<int32_t>::max();             ///< Tokens per KV head.
  /// A request may keep the whole cache.
  bool full_cache = true;
  SamplingOptions sampling{.temperature = 0.8F};
  AskedSession session;
};

}  // namespace restkv::server
