#pragma once

#include <cstddef>
#include <functional>

#include "eval/answer.h"
#include "eval/prompt_tokens.h"
#include "eval/suite.h"
#include "restkv/model.h"
#include "restkv/session.h"
#include "restkv/tokenizer.h"

namespace restkv::eval {

/// Answers (`Answer::turn_texts`, `turn_tokens`) and cost of a conversation.
struct MultiTurnResult {
  TimedAnswer timed;
  size_t read_tokens = 0;  ///< Tokens appended to the cache, the model's answers included.
  size_t kv_bytes = 0;     ///< Of the cache after the last turn's prompt.
  double kept = 0;         ///< Its tokens per KV head: `tokens_held`.
  double prefill_seconds = 0;
  double compress_seconds = 0;
};

/// Runs the conversation of `Sample::turns` on one cache. `Sample::prompt` is prefilled and
/// compressed, then each turn together with the pending tokens of the turn before; no token is read
/// twice. With `PromptOptions::chat` the messages are in the model's chat template; otherwise blank
/// lines separate them.
///
/// `progress` gets the share of turns done and returns whether to go on. Throws `Error`:
/// kUnsupported (no chat template, or one that rewrites messages), kInvalidArgument (longer than
/// the model's context), kInterrupted.
MultiTurnResult converse(const Model& model, const Tokenizer& tokenizer, const Answerer& answerer,
                         const Sample& sample, const SessionOptions& options,
                         const PromptOptions& prompt, const std::function<bool(double)>& progress);

}  // namespace restkv::eval
