#include "server/openai/native_answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

namespace restkv::server {
namespace {

double ratio(double a, double b) { return b > 0 ? a / b : 0; }

Json bias_json(const GenerationOptions& options) {
  Json list = Json::array();
  for (const auto& [token, bias] : options.logit_bias) {
    Json pair = Json::array();
    pair.push_back(token);
    pair.push_back(std::isfinite(bias) ? Json(static_cast<double>(bias)) : Json(false));
    list.push_back(std::move(pair));
  }
  return list;
}

}  // namespace

Json timings_json(const TokenCounts& counts, const AnswerTimes& times) {
  const size_t read = counts.prompt - std::min(counts.cached, counts.prompt);
  const auto prompt_n = static_cast<double>(read);
  const auto predicted_n = static_cast<double>(counts.completion);
  return Json::object({{"cache_n", counts.cached},
                       {"prompt_n", read},
                       {"prompt_ms", times.prompt * 1e3},
                       {"prompt_per_token_ms", ratio(times.prompt * 1e3, prompt_n)},
                       {"prompt_per_second", ratio(prompt_n, times.prompt)},
                       {"predicted_n", counts.completion},
                       {"predicted_ms", times.answer * 1e3},
                       {"predicted_per_token_ms", ratio(times.answer * 1e3, predicted_n)},
                       {"predicted_per_second", ratio(predicted_n, times.answer)}});
}

const char* stop_type(const GenerationResult& result) {
  if (result.finish_reason != FinishReason::kStop) return "limit";
  // An end token is no part of the answer; a token that completed a stop is.
  return result.last_token_is_pending ? "word" : "eos";
}

std::string stopping_word(const GenerationResult& result, const std::vector<std::string>& stops,
                          const Tokenizer& tokenizer) {
  if (std::string_view(stop_type(result)) != "word") return "";
  const std::string all = tokenizer.decode(result.tokens);
  if (all.size() < result.bytes.size()) return "";
  const std::string_view rest = std::string_view(all).substr(result.bytes.size());
  const auto found =
      std::ranges::find_if(stops, [&](const std::string& stop) { return rest.starts_with(stop); });
  return found == stops.end() ? "" : *found;
}

Json generation_settings_json(const GenerationOptions& options) {
  const SamplingOptions& s = options.sampling;
  const auto real = [](float value) {
    // 0.8, not the double beside it
    return Json(std::stod(fmt::format("{}", value)));
  };
  return Json::object({{"seed", s.seed},
                       {"temperature", real(s.temperature)},
                       {"top_k", s.top_k},
                       {"top_p", real(s.top_p)},
                       {"min_p", real(s.min_p)},
                       {"repeat_last_n", s.repeat_last_n},
                       {"repeat_penalty", real(s.repeat_penalty)},
                       {"presence_penalty", real(s.presence_penalty)},
                       {"frequency_penalty", real(s.frequency_penalty)},
                       {"stop", options.stop},
                       {"n_predict", options.max_tokens},
                       {"max_tokens", options.max_tokens},
                       {"min_tokens", options.min_tokens},
                       {"n_probs", options.logprobs.value_or(0)},
                       {"logit_bias", bias_json(options)}});
}

Json native_answer(const NativeAnswer& answer) {
  const TokenCounts& counts = answer.totals.counts;
  Json json =
      Json::object({{"index", answer.index},
                    {"content", answer.content},
                    {"tokens", std::vector<int>(answer.tokens.begin(), answer.tokens.end())},
                    {"id_slot", -1},
                    {"stop", true},
                    {"model", answer.model},
                    {"tokens_predicted", counts.completion},
                    {"tokens_evaluated", counts.prompt},
                    {"generation_settings", generation_settings_json(answer.options)},
                    {"prompt", answer.prompt},
                    {"has_new_line", answer.content.find('\n') != std::string::npos},
                    {"truncated", false},
                    {"stop_type", answer.stop_type},
                    {"stopping_word", answer.stopping_word},
                    {"tokens_cached", counts.cached},
                    {"timings", timings_json(counts, answer.times)}});
  if (!answer.logprobs.empty()) {
    json["completion_probabilities"] = logprobs_content(answer.logprobs, true);
  }
  if (answer.totals.cache) json["restkv"] = cache_json(*answer.totals.cache);
  return json;
}

std::string native_chunk(size_t index, std::string_view text, const std::vector<int32_t>& tokens,
                         const TokenCounts& counts, std::span<const NamedLogprob> logprobs) {
  Json json = Json::object({{"index", index},
                            {"content", text},
                            {"tokens", std::vector<int>(tokens.begin(), tokens.end())},
                            {"stop", false},
                            {"id_slot", -1},
                            {"tokens_predicted", counts.completion},
                            {"tokens_evaluated", counts.prompt}});
  if (!logprobs.empty()) json["completion_probabilities"] = logprobs_content(logprobs, true);
  return sse_event(json);
}

}  // namespace restkv::server
