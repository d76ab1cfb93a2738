#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "restkv/tokenizer.h"

namespace restkv {

/// Bytes of tokens as a text that ends before the first of some stops.
class TokenText {
 public:
  explicit TokenText(std::vector<std::string> stops);

  /// The characters that have become certain with these bytes: complete, and no part of what may be
  /// the beginning of a stop. Nothing may follow once the text has stopped.
  std::string push(std::string_view bytes);
  /// What was held back, if the text ends here.
  std::string end();

  [[nodiscard]] bool stopped() const { return stopped_; }
  /// All bytes before the stop.
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  /// Bytes at the end that may be the beginning of a stop.
  [[nodiscard]] size_t uncertain() const;

  std::vector<std::string> stops_;
  size_t longest_stop_ = 0;
  std::string bytes_;
  size_t given_ = 0;  ///< How many of them `utf8_` has got.
  bool stopped_ = false;
  Utf8Stream utf8_;
};

}  // namespace restkv
