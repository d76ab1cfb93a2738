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
#include "restkv/repeat.h"
#include "restkv/session.h"

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
  /// Chunks of the prompt that are repeated; asked for if a request needs a repeat pass.
  [[nodiscard]] virtual std::vector<RepeatFeed> feeds(std::span<const int32_t> /*tokens*/) const {
    return {};
  }
  /// Called for each block of the prompt's tokens in a layer without a sliding window: their
  /// queries [query_heads, m, d] after rotary embedding, and what the attention reads, [m, C]. The
  /// first is token `first` of the prompt.
  virtual void see(size_t /*layer*/, size_t /*first*/, Heads<const float> /*queries*/,
                   Matrix<const float> /*inputs*/) {}
  /// Called when all tokens have passed a layer; `kv` has its keys and values. `observer` has
  /// observed the layer if it has no sliding window.
  virtual void take(size_t /*layer*/, LayerKv& /*kv*/, LayerObserver& /*observer*/) {}
  /// Called after the last layer.
  virtual void finish() {}
};

/// Computation of a prompt, layer after layer, so that keys and values of only one layer exist in
/// full. It can pause after every step while the workspace serves other sequences.
///
/// The tokens of a repeat pass travel beside the prompt: when its own tokens have passed a layer,
/// those of each feed follow. They attend to the layer's rows, which still are complete, and to
/// each other; then they leave the layer, which is taken by the sink.
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
  /// Returns false after the last step.
  bool step(Stride stride = Stride::kBlock);
  /// Share of the work done, 0 to 1.
  [[nodiscard]] double done() const;
  /// Runs all steps. Throws `Error` (kInterrupted) if `progress` returns false.
  void run(const ProgressCallback& progress);
  /// Logits [V] after the last token.
  void last_logits(std::vector<float>& logits);
  /// Logits [rows, V] after the tokens from `first` on, which must be among the last `output_rows`.
  void logits(size_t first, Matrix<float> logits);

 private:
  /// A block of tokens, of the prompt or of a feed, in the current layer.
  struct Block {
    size_t first = 0;  ///< Its first row of `hidden`.
    size_t rows = 0;
    size_t outputs = 0;   ///< The last rows, whose outputs are needed.
    size_t position = 0;  ///< Row of the layer's keys, behind the prefix.
    size_t attended = 0;  ///< Of the outputs, so far.
    Projections projections = {};
    Heads<float> out = {};  ///< Of the attention.
    Matrix<float> lse = {};
  };
  /// What comes next.
  enum class Part { kBeginLayer, kProject, kAttend, kFeedForward, kEndLayer };

  void run_part(Stride stride);
  void begin_layer();
  void end_layer();
  [[nodiscard]] Block next_block() const;
  void project_block();
  /// Masks what the tokens of a narrow feed do not see.
  void hide_context(const RepeatFeed& feed);
  /// Returns false when all rows are attended.
  bool attend_some(Stride stride);
  void observe_block();
  /// Goes on to the next block.
  void leave_block();
  /// Whether feeds pass the current layer: beyond the last layer that is observed nobody watches.
  [[nodiscard]] bool feeds_pass() const { return layer_ <= last_observed_; }
  /// Whether all tokens have passed the current layer.
  [[nodiscard]] bool layer_done() const {
    return first_ == tokens_ && (feed_ == feeds_.size() || !feeds_pass());
  }
  /// Passes the keys and last queries of a whole layer to a sparse pattern.
  void look_ahead();
  [[nodiscard]] LayerPass pass();
  [[nodiscard]] bool own_tokens() const { return first_ < tokens_; }
  /// Rows [first, first + rows) of what travels through the layers.
  [[nodiscard]] Matrix<float> travelling(size_t first, size_t rows) {
    const size_t width = model_.config().width;
    return {memory_.hidden.data() + first * width, rows, width};
  }
  /// Hidden states after the layers so far, [n, C]; behind them are those of the feeds.
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
  std::vector<RepeatFeed> feeds_;
  std::vector<uint8_t> context_marks_;
  size_t longest_feed_ = 0;
  size_t fed_tokens_ = 0;     ///< Of all feeds.
  size_t last_observed_ = 0;  ///< The last layer without a sliding window.

  Part part_ = Part::kBeginLayer;
  Block block_;
  // The current layer and its state:
  size_t layer_ = 0;
  size_t first_ = 0;      ///< Token of the next block.
  size_t feed_ = 0;       ///< Feed of the next block, once all tokens have passed.
  size_t fed_first_ = 0;  ///< Token of that feed.
  size_t fed_ = 0;        ///< Tokens of all feeds that have passed.
  bool observed_ = false;
  bool is_sparse_ = false;
  size_t outputs_ = 0;  ///< Number of last tokens whose outputs are needed.
};

}  // namespace restkv
