#pragma once

#include <llama.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace restkv {

/// The control tokens of a vocabulary by their texts: <|im_end|>, </s>.
class ControlTokens {
 public:
  explicit ControlTokens(const llama_vocab* vocab);

  struct Mark {
    size_t begin = 0;
    size_t end = 0;
    int32_t token = 0;
  };
  /// Occurrences of control tokens in `text`, from left to right without overlaps; the longest one
  /// of several at one place.
  [[nodiscard]] std::vector<Mark> find(std::string_view text) const;

 private:
  /// Tokens by their texts, grouped by size, the longest first.
  std::map<size_t, std::map<std::string, int32_t, std::less<>>, std::greater<>> by_size_;
  std::array<bool, 256> first_bytes_{};
};

}  // namespace restkv
