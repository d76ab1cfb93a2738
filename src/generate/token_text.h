#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "restkv/tokenizer.h"

namespace restkv {

/// Joins the bytes of tokens to a text that ends before the first of some stops.
class TokenText {
 public:
  explicit TokenText(std::vector<std::string> stops);

  /// Adds bytes and returns the characters that are now final: complete, and not part of a possible
  /// beginning of a stop. Must not be called once the text has stopped.
  std::string push(std::string_view bytes);
  /// Ends the text and returns the characters that were held back.
  std::string end();

  [[nodiscard]] bool stopped() const { return stopped_; }
  /// All bytes before the stop.
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  /// Number of bytes at the end that may be the beginning of a stop.
  [[nodiscard]] size_t uncertain() const;

  std::vector<std::string> stops_;
  size_t longest_stop_ = 0;
  std::string bytes_;
  size_t given_ = 0;  ///< Number of bytes passed to `utf8_`.
  bool stopped_ = false;
  Utf8Stream utf8_;
};

}  // namespace restkv
