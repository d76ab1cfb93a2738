#include <algorithm>
#include <bit>
#include <functional>
#include <numeric>
#include <vector>

#include "attention/sparse/pattern.h"

namespace restkv {
namespace {

/// Scores combined with their indices: ordered by score, the first of equal scores largest.
/// Non-negative scores are ordered like their bits.
std::vector<uint64_t> ranked(std::span<const float> scores) {
  std::vector<uint64_t> entries;
  entries.reserve(scores.size());
  for (size_t i = 0; i < scores.size(); ++i) {
    entries.push_back(uint64_t{std::bit_cast<uint32_t>(scores[i])} << 32U |
                      (~static_cast<uint32_t>(i)));
  }
  return entries;
}

uint32_t index_of(uint64_t entry) { return ~static_cast<uint32_t>(entry); }
double score_of(uint64_t entry) {
  return std::bit_cast<float>(static_cast<uint32_t>(entry >> 32U));
}

/// Below this number, sorting is faster than splitting.
constexpr ptrdiff_t kFew = 32;

/// Moves the fewest entries whose sum reaches `target`, and at least `least`, to the front, in any
/// order; returns their number. Halves are split until few entries remain (quickselect).
size_t split_off(std::vector<uint64_t>& entries, double target, size_t least) {
  auto begin = entries.begin();  // entries before are selected, entries from here on undecided
  auto end = entries.end();
  const auto count = [&](auto position) { return static_cast<size_t>(position - entries.begin()); };
  double sum = 0;  // of the selected entries
  while (end - begin > kFew) {
    const auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, std::greater());
    const double with =
        std::accumulate(begin, middle, sum, [](double s, uint64_t e) { return s + score_of(e); });
    if (with < target || count(middle) < least) {
      begin = middle;
      sum = with;
    } else {
      end = middle;
    }
  }
  std::sort(begin, end, std::greater());
  while (begin != end && (sum < target || count(begin) < least)) sum += score_of(*begin++);
  return count(begin);
}

std::vector<uint32_t> front(const std::vector<uint64_t>& entries, size_t count) {
  std::vector<uint32_t> indices(count);
  for (size_t i = 0; i < count; ++i) indices[i] = index_of(entries[i]);
  return indices;
}

}  // namespace

std::vector<uint32_t> largest(std::span<const float> scores, size_t count) {
  std::vector<uint64_t> entries = ranked(scores);
  return front(entries, split_off(entries, 0, std::min(count, scores.size())));
}

std::vector<uint32_t> fewest_reaching(std::span<const float> scores, double share, size_t least) {
  // Rounding of a sum in another order might miss a share of 1.
  if (share >= 1) least = scores.size();
  double target = 0;
  for (const float x : scores) target += share * double{x};
  std::vector<uint64_t> entries = ranked(scores);
  return front(entries, split_off(entries, target, least));
}

void mark_fewest(std::span<const float> scores, double share, size_t least, uint8_t* marks) {
  for (const uint32_t tile : fewest_reaching(scores, share, least)) marks[tile] = 1;
}

}  // namespace restkv
