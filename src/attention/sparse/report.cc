#include <algorithm>

#include "restkv/sparse.h"

namespace restkv {

void SparseReport::Head::add(const Head& other) {
  visible_tiles += other.visible_tiles;
  kept_tiles += other.kept_tiles;
  sampled += other.sampled;
  recall_sum += other.recall_sum;
  lowest_recall = std::min(lowest_recall, other.lowest_recall);
}

double SparseReport::Head::density() const {
  return visible_tiles > 0 ? static_cast<double>(kept_tiles) / static_cast<double>(visible_tiles)
                           : 1;
}

double SparseReport::Head::recall() const {
  return sampled > 0 ? recall_sum / static_cast<double>(sampled) : 1;
}

SparseReport::Head SparseReport::layer(size_t layer) const {
  Head sum;
  for (size_t h = 0; h < query_heads; ++h) sum.add(head(layer, h));
  return sum;
}

SparseReport::Head SparseReport::total() const {
  Head sum;
  for (const Head& head : heads) sum.add(head);
  return sum;
}

}  // namespace restkv
