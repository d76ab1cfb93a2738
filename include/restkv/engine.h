#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "restkv/compress.h"
#include "restkv/kv_cache.h"
#include "restkv/model.h"
#include "restkv/repeat.h"
#include "restkv/sparse.h"
#include "restkv/threads.h"
#include "restkv/views.h"

namespace restkv {

/// One compressed cache to be made by a prefill. Several requests share the prompt's computation:
/// each layer's keys and values are compressed for all of them before they are freed.
struct CacheRequest {
  CompressionOptions options;
  KvType kv_type = KvType::kF16;
  KvCache cache;                      ///< Result.
  double compress_seconds = 0;        ///< Result: scoring, selection and gathering.
  std::vector<Selection> selections;  ///< Result, one per layer, if `keep_selections`.
  bool keep_selections = false;
};

/// Receives the share of the work done, 0 to 1. Returning false stops with `Error` (kInterrupted).
using ProgressCallback = std::function<bool(double)>;

/// Runs a model: layer-major prefill with compression, then decoding over the compressed cache.
///
/// The engine owns the working memory for any number of sequences. A `Session` keeps only its cache
/// and state between calls. Several engines may share a model. Sessions of one engine may be used
/// from different threads, each by one thread at a time; sessions that compute concurrently get
/// separate working memory. The functions below are for one thread at a time.
class Engine {
 public:
  /// The model must outlive the engine. `threads`: the pool to compute with; null: the pool of
  /// `set_num_threads`.
  explicit Engine(const Model& model, std::shared_ptr<ThreadPool> threads = nullptr);
  ~Engine();
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;

  [[nodiscard]] const Model& model() const;

  /// Sets the sparse pattern of prompts from now on and begins a new report. Layers with a sliding
  /// window, the observation window and at least the last 64 tokens of each prompt stay dense.
  /// Throws `Error` (kInvalidArgument) on options that cannot be used.
  void set_sparse(const SparseOptions& options);
  /// Skipped tiles and their cost since `set_sparse`.
  [[nodiscard]] const SparseReport& sparse_report() const;

  /// Sends all tokens through layer after layer. After each layer its keys and values are
  /// compressed into every request's cache and freed, so the full cache of only one layer exists
  /// at a time. Returns the logits [V] after the last token.
  ///
  /// `repeat`: for methods that need a repeat pass (`repeat_chunk`). Its tokens pass each layer
  /// after those of the prompt, before the layer is compressed; all such requests must repeat as
  /// many tokens at a time.
  ///
  /// Throws `Error`: kInvalidArgument (no tokens, more than the context, ids outside the
  /// vocabulary, options `validate` refuses), kInput (the model computes NaN), kInterrupted.
  std::vector<float> prefill(std::span<const int32_t> tokens, std::span<CacheRequest> requests,
                             const ProgressCallback& progress = {},
                             const std::optional<RepeatPrompt>& repeat = std::nullopt);

  /// Computes the logits of every position, in blocks: `sink(first, logits)` gets [rows, V] of the
  /// positions from `first` on. For perplexity and comparisons. Throws `Error` as `prefill` does.
  void score(std::span<const int32_t> tokens,
             const std::function<void(size_t first, Matrix<const float> logits)>& sink,
             const ProgressCallback& progress = {});

  /// Appends one token to the cache and returns the logits [V] after it, valid until the next call.
  /// Throws `Error`: kInvalidArgument beyond the model's context or for an id outside the
  /// vocabulary, kInput if the model computes NaN.
  std::span<const float> decode(int32_t token, KvCache& cache);

  /// The same for several caches, one token each: weights are read and unpacked once for all.
  /// Returns logits [tokens, V], valid until the next call. Logits do not depend on the other
  /// caches of the batch. They differ by rounding from those of the function for one cache, which
  /// rounds activations to multiply them with stored weights. A cache must not occur twice. Throws
  /// `Error` as above, and kInvalidArgument for more than `kMaxBatch` tokens.
  Matrix<const float> decode(std::span<const int32_t> tokens, std::span<KvCache* const> caches);
  static constexpr size_t kMaxBatch = 31;

 private:
  friend class Session;
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace restkv
