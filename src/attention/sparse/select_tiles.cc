#include <algorithm>
#include <bit>

#include "attention/sparse/pattern.h"

namespace restkv {
namespace {

/// Hands out indices, largest score first. Scores, which are not negative, order like their bits.
class Ranking {
 public:
  explicit Ranking(std::span<const float> scores) {
    heap_.reserve(scores.size());
    for (size_t i = 0; i < scores.size(); ++i) {
      heap_.push_back(uint64_t{std::bit_cast<uint32_t>(scores[i])} << 32U |
                      (~static_cast<uint32_t>(i)));
    }
    std::make_heap(heap_.begin(), heap_.end());
  }
  [[nodiscard]] bool empty() const { return heap_.empty(); }
  uint32_t next() {
    std::pop_heap(heap_.begin(), heap_.end());
    const uint32_t index = ~static_cast<uint32_t>(heap_.back());
    heap_.pop_back();
    return index;
  }

 private:
  std::vector<uint64_t> heap_;  // score, then the index inverted: earlier ones win
};

}  // namespace

std::vector<uint32_t> largest(std::span<const float> scores, size_t count) {
  Ranking ranking(scores);
  std::vector<uint32_t> best;
  while (best.size() < count && !ranking.empty()) best.push_back(ranking.next());
  return best;
}

std::vector<uint32_t> fewest_reaching(std::span<const float> scores, double share, size_t least) {
  double wanted = 0;
  for (const float x : scores) wanted += share * double{x};
  Ranking ranking(scores);
  std::vector<uint32_t> best;
  double sum = 0;
  while (!ranking.empty() && (sum < wanted || best.size() < least)) {
    best.push_back(ranking.next());
    sum += double{scores[best.back()]};
  }
  return best;
}

void mark_fewest(std::span<const float> scores, double share, size_t least, uint8_t* marks) {
  for (const uint32_t tile : fewest_reaching(scores, share, least)) marks[tile] = 1;
}

}  // namespace restkv
