#include "eval/metrics/difflib.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

#include "eval/metrics/lcs.h"

namespace restkv::eval {
namespace {

struct Range {
  size_t begin;
  size_t end;
  [[nodiscard]] bool empty() const { return begin >= end; }
};

struct Match {
  size_t a;
  size_t b;
  size_t size;
};

/// Lengths of the common runs that end at one character of a and before each position of b.
class RunLengths {
 public:
  explicit RunLengths(size_t b_size) : lengths_(b_size + 1, 0) {}
  [[nodiscard]] size_t at(size_t end) const { return lengths_[end]; }
  void set(size_t end, size_t length) {
    lengths_[end] = length;
    set_.push_back(end);
  }
  void clear() {
    for (const size_t end : set_) lengths_[end] = 0;
    set_.clear();
  }

 private:
  std::vector<size_t> lengths_;
  std::vector<size_t> set_;
};

class Matcher {
 public:
  Matcher(std::u32string_view a, std::u32string_view b)
      : a_(a), b_(b), before_(b.size()), here_(b.size()) {
    for (size_t j = 0; j < b.size(); ++j) positions_[b[j]].push_back(j);
    constexpr size_t kAutojunkLength = 200;
    if (b.size() >= kAutojunkLength) {
      const size_t popular = b.size() / 100 + 1;
      std::erase_if(positions_, [&](const auto& entry) { return entry.second.size() > popular; });
    }
  }

  size_t matching_characters() {
    size_t total = 0;
    std::vector<std::pair<Range, Range>> open = {{{0, a_.size()}, {0, b_.size()}}};
    while (!open.empty()) {
      const auto [in_a, in_b] = open.back();
      open.pop_back();
      if (in_a.empty() || in_b.empty()) continue;
      const Match match = longest_match(in_a, in_b);
      if (match.size == 0) continue;
      total += match.size;
      open.push_back({{in_a.begin, match.a}, {in_b.begin, match.b}});
      open.push_back({{match.a + match.size, in_a.end}, {match.b + match.size, in_b.end}});
    }
    return total;
  }

 private:
  /// The longest run without popular characters (among equals the first one in a, then in b),
  /// extended by equal characters around it.
  Match longest_match(Range in_a, Range in_b) {
    Match best = {in_a.begin, in_b.begin, 0};
    for (size_t i = in_a.begin; i < in_a.end; ++i) {
      if (const auto found = positions_.find(a_[i]); found != positions_.end()) {
        const auto& at = found->second;
        for (auto j = std::lower_bound(at.begin(), at.end(), in_b.begin);
             j != at.end() && *j < in_b.end; ++j) {
          const size_t size = before_.at(*j) + 1;
          here_.set(*j + 1, size);
          if (size > best.size) best = {i + 1 - size, *j + 1 - size, size};
        }
      }
      before_.clear();
      std::swap(before_, here_);
    }
    before_.clear();
    extend(best, in_a, in_b);
    return best;
  }

  /// Over equal characters on both sides, popular ones included.
  void extend(Match& match, Range in_a, Range in_b) const {
    while (match.a > in_a.begin && match.b > in_b.begin && a_[match.a - 1] == b_[match.b - 1]) {
      --match.a;
      --match.b;
      ++match.size;
    }
    while (match.a + match.size < in_a.end && match.b + match.size < in_b.end &&
           a_[match.a + match.size] == b_[match.b + match.size]) {
      ++match.size;
    }
  }

  std::u32string_view a_;
  std::u32string_view b_;
  std::unordered_map<char32_t, std::vector<size_t>> positions_;
  RunLengths before_;
  RunLengths here_;
};

}  // namespace

double difflib_ratio(std::u32string_view a, std::u32string_view b) {
  const size_t total = a.size() + b.size();
  if (total == 0) return 1;
  return 2.0 * static_cast<double>(Matcher(a, b).matching_characters()) /
         static_cast<double>(total);
}

double indel_ratio(std::u32string_view a, std::u32string_view b) {
  const size_t total = a.size() + b.size();
  if (total == 0) return 1;
  const std::vector<uint32_t> rows(a.begin(), a.end());
  const std::vector<uint32_t> columns(b.begin(), b.end());
  const size_t common = LcsColumns(columns).length(rows);
  return 1.0 - static_cast<double>(total - 2 * common) / static_cast<double>(total);
}

}  // namespace restkv::eval
