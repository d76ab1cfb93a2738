#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "base/threads.h"
#include "restkv/compress.h"
#include "restkv/stages.h"

namespace restkv {

/// Chooses the rows that layers keep, one layer after another. An allocation over all layers cuts
/// earlier layers again.
class LayerCuts {
 public:
  /// `options` must outlive the object.
  explicit LayerCuts(const CompressionOptions& options) : options_(options) {
    if (reallocates(options)) cascade_.emplace(options);
  }

  /// Whether a layer may be cut again, so that the cache must hold it in a form that can be.
  [[nodiscard]] bool come_again() const { return cascade_.has_value(); }

  /// The rows that the heads of the next layer keep; `heads` as in `select_ragged`. Calls
  /// again(layer, rows) for each earlier layer that is cut again: `rows` counts among the rows that
  /// its heads still held.
  Selection choose(size_t layer, std::span<const LayerObservation> heads,
                   FunctionRef<void(size_t layer, const Selection& rows)> again);

 private:
  const CompressionOptions& options_;
  std::optional<LayerCascade> cascade_;
  std::vector<size_t> layers_;             ///< Those of `cascade_`.
  std::vector<std::vector<size_t>> held_;  ///< Rows of each of their heads.
};

}  // namespace restkv
