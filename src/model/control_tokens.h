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
  /// Where the text of a control token stands in `text`: the first one and, of several that begin
  /// there, the longest; then on from its end.
  [[nodiscard]] std::vector<Mark> find(std::string_view text) const;

 private:
  /// Tokens by their texts, by the sizes of those, the longest first.
  std::map<size_t, std::map<std::string, int32_t, std::less<>>, std::greater<>> by_size_;
  std::array<bool, 256> first_bytes_{};
};

}  // namespace restkv
