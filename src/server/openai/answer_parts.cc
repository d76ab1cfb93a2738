#include "server/openai/answer_parts.h"

#include <fmt/format.h>

namespace restkv::server {

std::string answer_id(std::string_view prefix, uint64_t high, uint64_t low) {
  return fmt::format("{}{:016x}{:016x}", prefix, high, low);
}

Json usage_json(const TokenCounts& counts) {
  return Json::object(
      {{"prompt_tokens", counts.prompt},
       {"completion_tokens", counts.completion},
       {"total_tokens", counts.prompt + counts.completion},
       {"prompt_tokens_details", Json::object({{"cached_tokens", counts.cached}})}});
}

Json cache_json(const CacheReport& report) {
  return Json::object({{"kept", report.kept},
                       {"dropped", report.dropped},
                       {"kv_bytes", report.kv_bytes},
                       {"full_kv_bytes", report.full_kv_bytes},
                       {"compress_ms", report.compress_ms}});
}

const char* finish_word(FinishReason reason) {
  return reason == FinishReason::kStop ? "stop" : "length";
}

std::string sse_event(const Json& data) { return fmt::format("data: {}\n\n", data.dump()); }

std::string sse_event(std::string_view name, const Json& data) {
  return fmt::format("event: {}\ndata: {}\n\n", name, data.dump());
}

std::string end_of_stream(Json last, Json head, bool include_usage, const AnswerTotals& totals) {
  if (include_usage) {
    head["choices"] = Json::array();
    head["usage"] = usage_json(totals.counts);
  }
  if (totals.cache) (include_usage ? head : last)["restkv"] = cache_json(*totals.cache);
  std::string events = sse_event(last);
  if (include_usage) events += sse_event(head);
  return events.append(kSseDone);
}

std::string sse_error(const HttpError& error) {
  return fmt::format("event: error\ndata: {}\n\n", error.json());
}

}  // namespace restkv::server
