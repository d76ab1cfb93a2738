#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/layer_observer.h"
#include "engine/sparse_prefill.h"
#include "engine/workspace.h"
#include "restkv/compress.h"
#include "restkv/engine.h"
#include "restkv/kv_cache.h"
#include "restkv/model.h"

namespace restkv {

/// Receives the layers of a prompt, one after another.
class LayerSink {
 public:
  virtual ~LayerSink() = default;

  /// Options of the methods that layers are observed for.
  [[nodiscard]] virtual std::vector<const CompressionOptions*> observed_for() const { return {}; }
  /// The cache that the prompt's tokens attend to; null: none.
  [[nodiscard]] virtual const KvCache* cache() const { return nullptr; }
  /// State of a layer's earlier tokens, to be updated by the prompt; null: none.
  [[nodiscard]] virtual LayerState* state(size_t /*layer*/) { return nullptr; }
  /// Called when all tokens have passed a layer; `kv` has its keys and values. `observer` has
  /// observed the layer if it has no sliding window.
  virtual void take(size_t /*layer*/, LayerKv& /*kv*/, LayerObserver& /*observer*/) {}
  /// Called after the last layer.
  virtual void finish() {}
};

/// Computation of a prompt, layer after layer, so that keys and values of only one layer exist in
/// full. It can pause after every block of tokens while the workspace serves other sequences.
class Prefill {
 public:
  /// Only the last `output_rows` tokens get final hidden states. All arguments must outlive the
  /// prompt, but for `tokens` and, with `work_in`, the workspace. Throws `Error`
  /// (kInvalidArgument): no tokens, more than the context, ids outside the vocabulary.
  Prefill(const Model& model, Workspace& workspace, std::span<const int32_t> tokens,
          LayerSink& sink, SparsePrefill& sparse, size_t output_rows = 1);
  ~Prefill();
  Prefill(const Prefill&) = delete;
  Prefill& operator=(const Prefill&) = delete;

  /// Continues in another workspace after a pause, in which the old one may have been lent. Null:
  /// the prompt does not go on, and its memory is freed with it.
  void work_in(Workspace* workspace);
  /// Sends one block of tokens through one layer. Returns false after the last step.
  bool step();
  /// Share of the work done, 0 to 1.
  [[nodiscard]] double done() const;
  /// Runs all steps. Throws `Error` (kInterrupted) if `progress` returns false.
  void run(const ProgressCallback& progress);
  /// Logits [V] after the last token.
  void last_logits(std::vector<float>& logits);
  /// Logits [rows, V] after the tokens from `first` on, which must be among the last `output_rows`.
  void logits(size_t first, Matrix<float> logits);

 private:
  void begin_layer();
  void run_block();
  /// Passes the keys and last queries of a whole layer to a sparse pattern.
  void look_ahead();
  [[nodiscard]] LayerPass pass();
  /// Hidden states after the layers so far, [n, C].
  [[nodiscard]] Matrix<const float> hidden() const {
    return {memory_.hidden.data(), tokens_, model_.config().width};
  }

  const Model& model_;
  Workspace* workspace_;
  LayerSink& sink_;
  SparsePrefill& sparse_;
  size_t tokens_;
  size_t output_rows_;
  bool converts_;  ///< Whether weights are converted for this prompt.
  PrefillMemory memory_;
  size_t begin_;  ///< Position of the first token.
  std::vector<size_t> positions_;
  LayerObserver observer_;

  // The current layer and its state:
  size_t layer_ = 0;
  size_t first_ = 0;  ///< Token of the next block.
  bool observed_ = false;
  bool is_sparse_ = false;
  size_t outputs_ = 0;  ///< Number of last tokens whose outputs are needed.
};

}  // namespace restkv
