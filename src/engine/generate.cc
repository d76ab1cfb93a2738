#include "engine/generate.h"

#include <chrono>

namespace restkv {

Generation generate(const DecodeToken& decode, const Tokenizer& tokenizer,
                    std::span<const float> logits, Sampler& sampler, size_t max_tokens,
                    const std::function<bool(const std::string&)>& on_text) {
  using Clock = std::chrono::steady_clock;
  Generation result;
  Utf8Stream utf8;
  const auto emit = [&](const std::string& text) {
    result.text += text;
    if (on_text && !on_text(text)) result.stopped_by_caller = true;
  };
  while (result.tokens.size() < max_tokens && !result.stopped_by_caller) {
    const int32_t token = sampler.sample(logits);
    if (tokenizer.is_end(token)) break;
    result.tokens.push_back(token);
    emit(utf8.push(tokenizer.piece(token)));
    if (result.tokens.size() == max_tokens || result.stopped_by_caller) break;
    const auto start = Clock::now();
    logits = decode(token);
    result.seconds += std::chrono::duration<double>(Clock::now() - start).count();
    ++result.steps;
  }
  return result;
}

}  // namespace restkv
