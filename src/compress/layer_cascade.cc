#include <algorithm>

#include "base/threads.h"
#include "compress/layer_scores.h"
#include "compress/top_positions.h"
#include "restkv/stages.h"

namespace restkv {

std::vector<Selection> LayerCascade::add(std::span<const LayerObservation> heads) {
  const std::vector<LayerScores> scores = score_parts(heads, options_);
  LayerCandidates& layer = candidates_.emplace_back();
  std::vector<size_t>& rest = protected_.emplace_back();
  size_t longest = 0;  // rows of the longest head
  size_t most = 0;     // candidates of any head
  for (size_t p = 0; p < heads.size(); ++p) {
    for (size_t h = 0; h < scores[p].heads; ++h) {
      const auto row = scores[p].rows().row_span(h);
      layer.scores.emplace_back(row.begin(), row.end());
      rest.push_back(heads[p].keys.rows - row.size());
    }
    longest = std::max(longest, heads[p].keys.rows);
    most = std::max(most, scores[p].candidates);
  }
  const size_t tokens = heads.front().tokens > 0 ? heads.front().tokens : longest;
  layer.share = budget_share(tokens, longest - most, options_);

  const Allocation& allocation = find_allocation(options_.allocation);
  if (allocation.prefer != nullptr) layer.preference = allocation.prefer(heads, options_);
  const auto counts = allocation.reallocate(candidates_, heads.front().layers, options_);
  std::vector<TopPositions> top(static_cast<size_t>(num_threads()));
  std::vector<Selection> cuts(candidates_.size());
  for (size_t l = 0; l < candidates_.size(); ++l) {
    std::vector<std::vector<int32_t>>& keep = cuts[l].keep;
    keep.resize(counts[l].size());
    parallel_for(keep.size(), [&](size_t h, size_t thread) {
      std::vector<float>& row = candidates_[l].scores[h];
      const size_t before = row.size();
      const auto best = top[thread].find(row, std::min(counts[l][h], eligible(row, options_)));
      keep[h].assign(best.begin(), best.end());
      for (size_t i = 0; i < best.size(); ++i) row[i] = row[static_cast<size_t>(best[i])];
      row.resize(best.size());
      for (size_t i = 0; i < protected_[l][h]; ++i) {
        keep[h].push_back(static_cast<int32_t>(before + i));
      }
    });
  }
  return cuts;
}

}  // namespace restkv
