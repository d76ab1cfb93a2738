#include "engine/layer_cuts.h"

#include <utility>

namespace restkv {

Selection LayerCuts::choose(size_t layer, std::span<const LayerObservation> heads,
                            FunctionRef<void(size_t, const Selection&)> again) {
  if (!cascade_) return select_ragged(heads, options_);
  std::vector<Selection> cuts = cascade_->add(heads);
  layers_.push_back(layer);
  held_.emplace_back();
  for (size_t i = 0; i < cuts.size(); ++i) {
    std::vector<size_t> held;
    for (const std::vector<int32_t>& rows : cuts[i].keep) held.push_back(rows.size());
    if (i + 1 < cuts.size() && held != held_[i]) again(layers_[i], cuts[i]);
    held_[i] = std::move(held);
  }
  return std::move(cuts.back());
}

}  // namespace restkv
