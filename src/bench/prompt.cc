#include "bench/prompt.h"

#include <fmt/format.h>

#include <cmath>

#include "base/file.h"
#include "base/random.h"
#include "base/stories.h"
#include "base/text.h"
#include "restkv/error.h"

namespace restkv::bench {

void require_context(std::span<const size_t> lengths, size_t decode, const ModelConfig& config) {
  for (const size_t length : lengths) {
    if (length + decode <= config.context_length) continue;
    const double scale = std::ceil(static_cast<double>(length + decode) /
                                   static_cast<double>(config.context_length));
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("{} prompt tokens and {} decoded ones do not fit into the model's "
                    "context of {} tokens; measure shorter prompts or fewer decoded tokens, "
                    "or scale the context (linear RoPE scaling by {} suffices; speed and "
                    "memory do not depend on it)",
                    length, decode, config.context_length, scale));
  }
}

std::vector<int32_t> make_prompt(const Tokenizer& tokenizer, const std::string& path, uint64_t seed,
                                 size_t tokens) {
  std::string text;
  if (path.empty()) {
    constexpr size_t kBytesPerToken = 6;  // stories have fewer
    Random random(seed);
    eval::Stories stories(random);
    while (text.size() < kBytesPerToken * tokens) text += stories.next() + " ";
  } else {
    text = to_utf8(read_file(path), path);
  }
  std::vector<int32_t> ids = tokenizer.encode(text, true, false);
  if (ids.size() < tokens) {
    throw Error(
        ErrorCode::kInput,
        fmt::format("{} has {} tokens, but the longest prompt has {}; give a longer text or "
                    "shorter lengths",
                    path.empty() ? "the generated text" : path, ids.size(), tokens));
  }
  ids.resize(tokens);
  return ids;
}

}  // namespace restkv::bench
