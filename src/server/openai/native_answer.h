#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "restkv/generate.h"
#include "restkv/tokenizer.h"
#include "server/openai/answer_parts.h"
#include "server/openai/token_logprobs.h"

/// Answers of `POST /completion`, in llama.cpp's own form.
namespace restkv::server {

/// How long things took, in seconds.
struct AnswerTimes {
  double prompt = 0;
  double answer = 0;
};
/// {"prompt_n", "prompt_ms", ..., "predicted_per_second"}
Json timings_json(const TokenCounts& counts, const AnswerTimes& times);

/// "eos", "limit" or "word".
const char* stop_type(const GenerationResult& result);
/// Which of the stops the answer ended before; empty: none.
std::string stopping_word(const GenerationResult& result, const std::vector<std::string>& stops,
                          const Tokenizer& tokenizer);

struct NativeAnswer {
  size_t index = 0;
  std::string content;
  std::vector<int32_t> tokens;  ///< Empty unless they are wanted.
  std::string model;
  std::string prompt;
  std::string stop_type;  ///< "eos", "limit" or "word".
  std::string stopping_word;
  GenerationOptions options;
  std::vector<NamedLogprob> logprobs;
  AnswerTotals totals;
  AnswerTimes times;
};

Json generation_settings_json(const GenerationOptions& options);
/// The whole answer, which is also the last event of a stream (there with `content` empty and no
/// logprobs).
Json native_answer(const NativeAnswer& answer);
/// One event of a stream before the last. `text`: whole characters.
std::string native_chunk(size_t index, std::string_view text, const std::vector<int32_t>& tokens,
                         const TokenCounts& counts, std::span<const NamedLogprob> logprobs = {});

}  // namespace restkv::server
