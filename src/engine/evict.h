#pragma once

#include <cstddef>
#include <vector>

#include "engine/layer_cuts.h"
#include "engine/layer_refits.h"
#include "engine/prefill.h"
#include "engine/sequence.h"
#include "engine/workspace.h"
#include "restkv/model.h"
#include "restkv/selection.h"

/// Eviction: after each layer of a prompt, and of a whole cache.
namespace restkv {

/// Checks a new sequence's options and makes its cache. Throws `Error` (kInvalidArgument).
void begin_sequence(const Model& model, Sequence& sequence);

/// Cuts a sequence's cache to `budget` tokens per head of an average layer if it holds more.
void evict(const Model& model, Workspace& workspace, Sequence& sequence, int budget);
/// Cuts the cache to the decode budget if a single token has made that due (`eviction_due`).
void evict_if_due(const Model& model, Workspace& workspace, Sequence& sequence);

/// With compact positions: renumbers the rows of layers with a sliding window whose positions would
/// otherwise grow without limit, before `added` more tokens.
void renumber_windows(const Model& model, Workspace& workspace, Sequence& sequence, size_t added);

/// Stores all rows of a layer in a cache that holds its first `kv.prefix()` rows; of a sliding
/// window those that it still covers.
void keep_whole_layer(const ModelConfig& config, KvCache& cache, size_t layer, LayerKv& kv);

/// The last `count` of n rows, for every head.
Selection last_rows(size_t heads, size_t n, size_t count);

/// Appends `added` tokens of a prompt to a sequence and cuts its cache if it exceeds the budget.
class SequenceSink : public LayerSink {
 public:
  SequenceSink(const Model& model, Workspace& workspace, Sequence& sequence, size_t added);

  /// From now on another workspace.
  void work_in(Workspace& workspace) { workspace_ = &workspace; }

  [[nodiscard]] std::vector<const CompressionOptions*> observed_for() const override {
    return {&sequence_.options.compression};
  }
  [[nodiscard]] const KvCache* cache() const override { return &sequence_.cache; }
  [[nodiscard]] LayerState* state(size_t layer) override { return &sequence_.layers[layer]; }
  [[nodiscard]] std::vector<RepeatFeed> feeds(std::span<const int32_t> tokens) const override;
  void take(size_t layer, LayerKv& kv, LayerObserver& observer) override;
  void finish() override;

 private:
  const Model& model_;
  Workspace* workspace_;
  Sequence& sequence_;
  size_t added_;
  LayerCuts cuts_;
  LayerRefits refits_;
};

}  // namespace restkv
