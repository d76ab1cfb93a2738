#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "restkv/compress.h"
#include "restkv/kv_cache.h"
#include "restkv/model.h"
#include "restkv/sparse.h"
#include "restkv/threads.h"
#include "restkv/views.h"

namespace restkv {

/// One compressed cache wanted from a prefill. Any number of them share the prompt's computation:
/// each layer's keys and values are offered to all of them before they are freed.
struct CacheRequest {
  CompressionOptions options;
  KvType kv_type = KvType::kF16;
  KvCache cache;                      ///< Result.
  double compress_seconds = 0;        ///< Result: scoring, selection and gathering.
  std::vector<Selection> selections;  ///< Result, one per layer, if `keep_selections`.
  bool keep_selections = false;
};

/// Share of the work done, 0 to 1; returning false stops with `Error` (kInterrupted).
using ProgressCallback = std::function<bool(double)>;

/// Runs a model: layer-major prefill with compression, then decoding over the compressed cache.
///
/// It holds the memory to work in, once for however many sequences: what a `Session` of it keeps
/// between calls is its cache. The model may be shared by engines. Sessions of one engine may be
/// used from different threads, each by one at a time; those that compute at the same moment get
/// memory of their own. The functions below are for one thread at a time.
class Engine {
 public:
  /// The model must outlive the engine. `threads`: who computes; none: the pool of
  /// `set_num_threads`.
  explicit Engine(const Model& model, std::shared_ptr<ThreadPool> threads = nullptr);
  ~Engine();
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;

  [[nodiscard]] const Model& model() const;

  /// Leaves out tiles of attention while prompts are read, from now on, and begins a new report.
  /// Layers with a sliding window, the observation window and at least the last 64 tokens of each
  /// prompt stay dense. Throws `Error`
  /// (kInvalidArgument) on options that cannot be used.
  void set_sparse(const SparseOptions& options);
  /// What it left out since.
  [[nodiscard]] const SparseReport& sparse_report() const;

  /// Sends all tokens through layer after layer. After each layer its keys and values are
  /// compressed into every request's cache and freed, so the full cache of only one layer exists
  /// at a time. Returns the logits [V] after the last token.
  ///
  /// Throws `Error`: kInvalidArgument (no tokens, more than the context, ids outside the
  /// vocabulary, options `validate` refuses), kInput (the model computes NaN), kInterrupted.
  std::vector<float> prefill(std::span<const int32_t> tokens, std::span<CacheRequest> requests,
                             const ProgressCallback& progress = {});

  /// The logits of every position, in blocks: `sink(first, logits)` gets [rows, V]. For
  /// perplexity and comparisons.
  void score(std::span<const int32_t> tokens,
             const std::function<void(size_t first, Matrix<const float> logits)>& sink,
             const ProgressCallback& progress = {});

  /// Appends one token to the cache and returns the logits [V] after it, valid until the next
  /// call. Throws `Error` (kInvalidArgument) beyond the model's context.
  std::span<const float> decode(int32_t token, KvCache& cache);

  /// The same for several caches at once, a token for each: the weights are read and unpacked once
  /// for all of them. Returns logits [tokens, V], valid until the next call. They do not depend on
  /// what is decoded together, but differ by a rounding from those of the function for one cache,
  /// which rounds activations to meet stored weights. Throws `Error` (kInvalidArgument) also if
  /// there are more than `kMaxBatch`; a cache must not occur twice.
  Matrix<const float> decode(std::span<const int32_t> tokens, std::span<KvCache* const> caches);
  static constexpr size_t kMaxBatch = 31;

 private:
  friend class Session;
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace restkv
