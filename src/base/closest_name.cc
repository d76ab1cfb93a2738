#include "base/closest_name.h"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace restkv {
namespace {

/// Letters per typing error; whoever makes more of them means something else.
constexpr size_t kLettersPerError = 3;
/// Shorter beginnings say too little.
constexpr size_t kLeastBeginning = 3;

char folded(char c) {
  if (c == '_') return '-';
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

std::string folded(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](char c) { return folded(c); });
  return out;
}

/// Optimal string alignment: insertions, deletions, substitutions, and swaps of neighbours.
size_t errors_between(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1);
  std::vector<size_t> row(b.size() + 1);
  std::vector<size_t> next(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    next[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      next[j] =
          std::min({row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        next[j] = std::min(next[j], before[j - 2] + 1);
      }
    }
    std::swap(before, row);
    std::swap(row, next);
  }
  return row[b.size()];
}

}  // namespace

bool same_name(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, {}, [](char c) { return folded(c); }, [](char c) { return folded(c); });
}

std::optional<std::string> closest_name(std::string_view text,
                                        std::span<const std::string_view> names) {
  const std::string typed = folded(text);
  std::optional<std::string> best;
  size_t least = std::max<size_t>(1, typed.size() / kLettersPerError) + 1;
  for (const std::string_view name : names) {
    const size_t errors = errors_between(typed, folded(name));
    if (errors >= least || errors >= name.size()) continue;
    least = errors;
    best = name;
  }
  if (best || typed.size() < kLeastBeginning) return best;
  for (const std::string_view name : names) {
    if (!folded(name).starts_with(typed)) continue;
    if (best) return std::nullopt;
    best = name;
  }
  return best;
}

std::string did_you_mean(std::string_view text, std::span<const std::string_view> names) {
  const std::optional<std::string> name = closest_name(text, names);
  return name ? " (did you mean " + *name + "?)" : "";
}

}  // namespace restkv
