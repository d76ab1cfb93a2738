#include "model/control_tokens.h"

namespace restkv {

ControlTokens::ControlTokens(const llama_vocab* vocab) {
  for (llama_token token = 0; token < llama_vocab_n_tokens(vocab); ++token) {
    // libllama treats these as text unless it parses special tokens.
    constexpr int kControl = LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN;
    if ((llama_vocab_get_attr(vocab, token) & kControl) == 0) continue;
    const std::string text = llama_vocab_get_text(vocab, token);
    if (text.empty()) continue;
    by_size_[text.size()].emplace(text, token);
    first_bytes_[static_cast<unsigned char>(text.front())] = true;
  }
}

std::vector<ControlTokens::Mark> ControlTokens::find(std::string_view text) const {
  std::vector<Mark> marks;
  for (size_t at = 0; at < text.size();) {
    if (!first_bytes_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const size_t begin = at++;
    for (const auto& [size, tokens] : by_size_) {
      const auto found = tokens.find(text.substr(begin, size));
      if (found == tokens.end()) continue;
      at = begin + size;
      marks.push_back({begin, at, found->second});
      break;
    }
  }
  return marks;
}

}  // namespace restkv
