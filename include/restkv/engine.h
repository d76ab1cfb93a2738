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

struct CacheStream;
enum class StoredProduct;
class LayerObserver;
class TokenObserver;

/// Share of the work done, 0 to 1; returning false stops with `Error` (kInterrupted).
using ProgressCallback = std::function<bool(double)>;

/// Runs a model: layer-major prefill with compression, then decoding over the compressed cache.
/// Holds the working memory of one stream of tokens; the model may be shared.
class Engine {
 public:
  explicit Engine(const Model& model);
  ~Engine();

  /// Leaves out tiles of attention while prompts are read, from now on, and begins a new report.
  /// Layers with a sliding window, the observation window and at least the last 64 tokens of each
  /// prompt stay dense, and all tokens see what a stream's cache held before. Throws `Error`
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

  /// Checks a new stream's options and makes its cache.
  void start(CacheStream& stream) const;

  /// Continues a stream: the tokens attend to what its cache holds and to each other, then join it;
  /// if it holds more than the budget afterwards, all of it is compressed with the last queries in
  /// view. Returns the logits [V] after the last token. For a new stream the same as `prefill`.
  /// Throws like `prefill`; the stream is then as it was, unless compression had begun.
  std::vector<float> extend(std::span<const int32_t> tokens, CacheStream& stream,
                            const ProgressCallback& progress = {});

  /// Appends one token to a stream, without compressing it. Otherwise like `extend`.
  std::span<const float> decode(int32_t token, CacheStream& stream);

  /// Cuts a stream to its budget, if it holds more.
  void compress(CacheStream& stream);

  /// Appends one token to the cache and returns the logits [V] after it, valid until the next
  /// call. Throws `Error` (kInvalidArgument) beyond the model's context.
  std::span<const float> decode(int32_t token, KvCache& cache);

  /// The same for several caches at once, a token for each: the weights are read and unpacked once
  /// for all of them. Returns logits [tokens, V], valid until the next call. They do not depend on
  /// what is decoded together, but differ by a rounding from those of the function for one cache,
  /// which rounds activations to meet stored weights. Throws `Error` (kInvalidArgument) also if
  /// there are more than `kMostTogether`; a cache must not occur twice.
  Matrix<const float> decode(std::span<const int32_t> tokens, std::span<KvCache* const> caches);
  static constexpr size_t kMostTogether = 31;

 private:
  struct State;

  void run_prompt(std::span<const int32_t> tokens, std::span<CacheRequest> requests,
                  CacheStream* stream, size_t wanted_rows, const ProgressCallback& progress);
  /// Makes keys and last queries of a whole layer known to a sparse pattern.
  void look_ahead(size_t layer, std::span<const size_t> positions, Matrix<const float> hidden);
  LayerObservation observe(LayerObserver& observer, size_t request, size_t layer);
  std::vector<float> last_logits(size_t tokens);
  Matrix<const float> decode_rows(std::span<const int32_t> tokens, std::span<KvCache* const> caches,
                                  StoredProduct product, TokenObserver* observer);

  /// Puts what is to stay of the layer in the works into a stream's cache.
  void keep_in_stream(CacheStream& stream, size_t layer, size_t added, LayerObserver& observer);
  /// Numbers kept rows anew, so that the last stands before position `budget`, and turns their keys
  /// to the new positions, of which it returns a table like that of the layer in the works.
  std::vector<std::vector<int32_t>> compact(const CacheStream& stream, size_t added,
                                            const Selection& kept);
  /// The same for layers with a sliding window whose positions would grow for ever.
  void renumber_windows(CacheStream& stream, size_t added);
  void finish_stream(CacheStream& stream, size_t added);

  const Model& model_;
  std::unique_ptr<State> state_;
};

}  // namespace restkv
