#pragma once

#include <compare>
#include <cstddef>
#include <string>
#include <string_view>

namespace restkv {

/// How many tokens each KV head of an average layer keeps: a number, or a share of the prompt.
struct Budget {
  double share = 0;  ///< Of the prompt's tokens, up to 1; 0: `tokens` says the number.
  int tokens = 0;

  /// Tokens kept of a prompt of n: a share is rounded down, but keeps at least one.
  [[nodiscard]] int of(size_t n) const;
  /// "512", "12.5%"
  [[nodiscard]] std::string text() const;
  /// Numbers stand before shares.
  auto operator<=>(const Budget&) const = default;
};

/// Reads what `Budget::text` writes. Throws `Error` (kInvalidArgument) naming the text unless it is
/// a positive whole number or a percentage above 0, at most 100.
Budget parse_budget(std::string_view text);

}  // namespace restkv
