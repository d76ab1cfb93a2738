#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "restkv/generate.h"
#include "server/http/http_error.h"

/// What answers of all forms are made of.
namespace restkv::server {

/// What is the same in all chunks of an answer.
struct AnswerStamp {
  std::string id;       ///< "chatcmpl-..."
  int64_t created = 0;  ///< Seconds since 1970.
  std::string model;
};

/// `prefix` ("chatcmpl-", "cmpl-", "call_") and 32 letters and digits of these bits, which nobody
/// should be able to guess.
std::string answer_id(std::string_view prefix, uint64_t high, uint64_t low);

struct TokenCounts {
  size_t prompt = 0;
  size_t cached = 0;      ///< Of these, not read for this request.
  size_t completion = 0;  ///< Of all answers together.
};
/// {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"}
Json usage_json(const TokenCounts& counts);

/// What the cache holds at the end of an answer.
struct CacheReport {
  size_t kept = 0;     ///< Tokens per KV head, on average.
  size_t dropped = 0;  ///< Tokens that were read and are not held, the same.
  size_t kv_bytes = 0;
  size_t full_kv_bytes = 0;
  double compress_ms = 0;
};
Json cache_json(const CacheReport& report);

/// What the end of an answer tells beside the text.
struct AnswerTotals {
  TokenCounts counts;
  std::optional<CacheReport> cache = {};
  /// Which of the client's stops this answer ended before (see `stopping_word`); empty: none.
  std::string stopping_word = {};
};

/// "stop" or "length". A cut answer (the server stops) is one that was not finished.
const char* finish_word(FinishReason reason);

/// "data: {...}\n\n", one server-sent event.
std::string sse_event(const Json& data);
/// The same with a line "event: NAME".
std::string sse_event(std::string_view name, const Json& data);
/// A stream that fails after it began ends with this: "event: error".
std::string sse_error(const HttpError& error);
/// The events that end a stream of chunks: `last` of a choice, with `include_usage` a chunk made of
/// `head` with the counts of tokens, and [DONE]. The later of the chunks has what the cache holds.
std::string end_of_stream(Json last, Json head, bool include_usage, const AnswerTotals& totals);
inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";

}  // namespace restkv::server
