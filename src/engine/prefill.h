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

/// Where the layers of a prompt end up, one after another.
class LayerSink {
 public:
  virtual ~LayerSink() = default;

  /// What methods the layers are observed for.
  [[nodiscard]] virtual std::vector<const CompressionOptions*> observed_for() const { return {}; }
  /// What the prompt's tokens attend to besides each other; null: nothing.
  [[nodiscard]] virtual const KvCache* cache() const { return nullptr; }
  /// What is remembered of a layer's earlier tokens, and will be of these; null: nothing.
  [[nodiscard]] virtual LayerState* state(size_t /*layer*/) { return nullptr; }
  /// All tokens have passed a layer, whose keys and values are in `kv`. `observer` has looked at
  /// those without a sliding window.
  virtual void take(size_t /*layer*/, LayerKv& /*kv*/, LayerObserver& /*observer*/) {}
  /// All layers were taken.
  virtual void finish() {}
};

/// A prompt on its way through a model: layer after layer, so that keys and values of only one
/// layer exist in full. It can pause after every block of tokens while the same workspace serves
/// other sequences.
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

  /// From now on another workspace, after a pause in which this one may have been lent to somebody
  /// else. Null: none; the prompt will not go on, and its memory is freed with it.
  void work_in(Workspace* workspace);
  /// Sends one block of tokens through one layer. False: nothing is left to do.
  bool step();
  /// Share of the work done, 0 to 1.
  [[nodiscard]] double done() const;
  /// All steps. Throws `Error` (kInterrupted) if `progress` returns false.
  void run(const ProgressCallback& progress);
  /// Hidden states after the last layer, [n, C].
  [[nodiscard]] Matrix<const float> hidden() const {
    return {memory_.hidden.data(), tokens_, model_.config().width};
  }
  /// Logits [V] after the last token.
  void last_logits(std::vector<float>& logits);

 private:
  void begin_layer();
  void run_block();
  /// Makes keys and last queries of a whole layer known to a sparse pattern.
  void look_ahead();
  [[nodiscard]] LayerPass pass();

  const Model& model_;
  Workspace* workspace_;
  LayerSink& sink_;
  SparsePrefill& sparse_;
  size_t tokens_;
  size_t output_rows_;
  bool converts_;  ///< Matrices are converted for this prompt.
  PrefillMemory memory_;
  size_t begin_;  ///< Position of the first token.
  std::vector<size_t> positions_;
  LayerObserver observer_;

  // Where it is, and of that layer:
  size_t layer_ = 0;
  size_t first_ = 0;  ///< Token of the next block.
  bool observed_ = false;
  bool is_sparse_ = false;
  size_t outputs_ = 0;  ///< Last tokens that need its outputs.
};

}  // namespace restkv
