#pragma once

#include <compare>
#include <cstddef>
#include <string>
#include <string_view>

namespace restkv {

/// How many tokens each KV head of an average layer keeps: a number, a share of the prompt, or as
/// many as every layer chooses for itself.
struct Budget {
  double share = 0;  ///< Of the prompt's tokens, up to 1; 0: `tokens` says the number.
  int tokens = 0;
  /// Above 0: `CompressionOptions::tolerance`. `tokens` is then the most that a layer may choose;
  /// 0: all of them.
  double tolerance = 0;

  /// Tokens kept of a prompt of n, or at most: a share is rounded down, but keeps at least one.
  [[nodiscard]] int of(size_t n) const;
  /// "512", "12.5%", "auto:0.05", "auto:0.05:2048"
  [[nodiscard]] std::string text() const;
  /// Budgets that choose themselves without a limit stand before numbers, these before shares.
  auto operator<=>(const Budget&) const = default;
};

/// The tolerance of "auto" alone.
inline constexpr double kUsualTolerance = 0.05;

/// Reads what `Budget::text` writes, and "auto". Throws `Error` (kInvalidArgument) naming the text
/// unless it is a positive whole number, a percentage above 0, at most 100, or "auto" with a
/// tolerance between 0 and 1 and a positive number behind it, if anything.
Budget parse_budget(std::string_view text);

}  // namespace restkv
