#include "server/openai/answer_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/parse_number.h"
#include "server/http/http_error.h"

namespace restkv::server {
namespace {

constexpr size_t kMostNameBytes = 512;

void parse_sampling(const FieldReader& body, const RequestLimits& limits, AnswerOptions& options) {
  SamplingOptions& sampling = options.generation.sampling;
  sampling = limits.sampling;
  const auto read = [&](const char* name, float& value, double low, double high) {
    if (const auto number = body.number(name, low, high)) value = static_cast<float>(*number);
  };
  read("temperature", sampling.temperature, 0, 2);
  read("top_p", sampling.top_p, 0, 1);
  read("min_p", sampling.min_p, 0, 1);
  read("presence_penalty", sampling.presence_penalty, -2, 2);
  read("frequency_penalty", sampling.frequency_penalty, -2, 2);
  read("repeat_penalty", sampling.repeat_penalty, 0.01, 100);
  read("repetition_penalty", sampling.repeat_penalty, 0.01, 100);
  // -1 is "off" in some servers, 0 in others.
  if (const auto k = body.whole("top_k", -1, std::numeric_limits<int32_t>::max())) {
    sampling.top_k = static_cast<int>(std::max<int64_t>(*k, 0));
  }
  if (const auto n = body.whole("repeat_last_n", -1, 1'000'000)) {
    sampling.repeat_last_n = static_cast<int>(*n < 0 ? 1'000'000 : *n);
  }
  // What samplers take no more is, to all intents, the limit itself.
  constexpr float kLeast = 1e-6F;
  if (sampling.temperature < kLeast) sampling.temperature = 0;
  sampling.top_p = std::max(sampling.top_p, kLeast);

  if (body.find("seed") != nullptr) {
    constexpr auto kMost = std::numeric_limits<int64_t>::max();
    const int64_t seed = *body.whole("seed", std::numeric_limits<int64_t>::min(), kMost);
    options.has_seed = seed != -1;  // llama.cpp's clients ask for a random one so
    if (options.has_seed) sampling.seed = sampler_seed(seed);
  }
}

void parse_stops(const FieldReader& body, const char* name, const RequestLimits& limits,
                 GenerationOptions& options) {
  const Json* stop = body.find(name);
  if (stop == nullptr) return;
  const std::string path = body.path(name);
  const auto add = [&](const Json& text, const std::string& where) {
    if (!text.is_string() || text.text().empty() || text.text().size() > limits.stop_bytes) {
      refuse_value(where, text, fmt::format("a text of 1 to {} bytes", limits.stop_bytes));
    }
    options.stop.push_back(text.text());
  };
  if (stop->is_string()) return add(*stop, path);
  if (!stop->is_array()) refuse_value(path, *stop, "a text or a list of texts");
  if (stop->size() > limits.stops) {
    refuse_field(
        path, fmt::format("'{}' has {} texts; the limit is {}", path, stop->size(), limits.stops));
  }
  for (size_t i = 0; i < stop->size(); ++i) add(stop->at(i), item_path(path, i));
}

class LogitBias {
 public:
  LogitBias(const FieldReader& body, const RequestLimits& limits, GenerationOptions& options)
      : path_(body.path("logit_bias")), limits_(limits), options_(options) {
    const Json* bias = body.find("logit_bias");
    if (bias == nullptr) return;
    // All of them are added for every token that is written.
    if (bias->size() > limits.vocabulary) {
      refuse_field(path_, fmt::format("'{}' has {} items; the model has {} tokens", path_,
                                      bias->size(), limits.vocabulary));
    }
    if (bias->is_object()) {
      for (const auto& [name, value] : bias->items()) {
        int32_t token = -1;
        if (!parse_number(name, token)) token = -1;
        add(token, name, value);
      }
    } else if (bias->is_array()) {  // llama.cpp's form
      for (const Json& pair : *bias) {
        if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number_integer()) {
          refuse_value(path_, pair, "a pair of a token id and a number");
        }
        const auto id = pair[0].get<double>();
        add(id >= 0 && id < 2e9 ? static_cast<int32_t>(id) : -1, shown(pair[0]), pair[1]);
      }
    } else {
      refuse_value(path_, *bias, "an object of token ids and numbers");
    }
  }

 private:
  void add(int32_t token, const std::string& name, const Json& value) {
    if (token < 0 || static_cast<size_t>(token) >= limits_.vocabulary) {
      refuse_field(path_, fmt::format("'{}' names the token {}; expected an id below {}", path_,
                                      shown(name), limits_.vocabulary));
    }
    constexpr float kForbidden = -std::numeric_limits<float>::infinity();
    const bool forbids = value.is_boolean() && !value.get<bool>();
    if (!forbids && !(value.is_number() && std::abs(value.get<double>()) <= 100)) {
      refuse_value(fmt::format("{}.{}", path_, token), value, "a number from -100 to 100");
    }
    options_.logit_bias.emplace_back(token, forbids ? kForbidden : value.get<float>());
  }

  std::string path_;
  const RequestLimits& limits_;
  GenerationOptions& options_;
};

}  // namespace

uint32_t sampler_seed(int64_t seed) {
  const auto bits = static_cast<uint64_t>(seed);
  const auto folded = static_cast<uint32_t>(bits ^ bits >> 32U);
  return folded == std::numeric_limits<uint32_t>::max() ? 0 : folded;
}

void parse_max_tokens(const FieldReader& body, std::initializer_list<const char*> names,
                      size_t least, size_t otherwise, const RequestLimits& limits,
                      AnswerOptions& options) {
  GenerationOptions& generation = options.generation;
  generation.max_tokens = std::min(otherwise, limits.max_tokens);
  const auto most = static_cast<int64_t>(limits.max_tokens);
  for (const char* name : names) {
    const auto given = body.whole(name, static_cast<int64_t>(least), most);
    if (!given || options.has_max_tokens) continue;
    generation.max_tokens = static_cast<size_t>(*given);
    options.has_max_tokens = true;
  }
  if (const auto min = body.whole("min_tokens", 0, most)) {
    generation.min_tokens = static_cast<size_t>(*min);
    if (generation.min_tokens > generation.max_tokens) {
      body.refuse("min_tokens", fmt::format("no more than the {} tokens that the answer may have",
                                            generation.max_tokens));
    }
  }
  if (body.boolean("ignore_eos").value_or(false)) generation.min_tokens = generation.max_tokens;
}

AnswerOptions parse_answer_options(const FieldReader& body, const RequestLimits& limits,
                                   const char* stops) {
  AnswerOptions options;
  options.model = body.text("model", kMostNameBytes).value_or("");
  options.user = body.text("user", kMostNameBytes).value_or("");
  options.stream = body.boolean("stream").value_or(false);
  if (const auto stream = body.object("stream_options")) {
    options.include_usage = stream->boolean("include_usage").value_or(false) && options.stream;
  }
  if (const auto n = body.whole("n", 1, static_cast<int64_t>(limits.choices))) {
    options.n = static_cast<size_t>(*n);
  }
  parse_sampling(body, limits, options);
  parse_stops(body, stops, limits, options.generation);
  const LogitBias bias(body, limits, options.generation);
  options.document = body.text("document", kMostNameBytes);
  if (const auto restkv = body.object("restkv")) {
    if (options.document) {
      refuse_field("restkv",
                   "'restkv' has no effect beside 'document', which was read with options of its "
                   "own; leave one of them out");
    }
    options.session = parse_session_options(*restkv, limits.session, limits);
  }
  return options;
}

}  // namespace restkv::server
