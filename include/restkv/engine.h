#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "restkv/compress.h"
#include "restkv/kv_cache.h"
#include "restkv/model.h"
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
/// Holds the working memory of one stream of tokens; the model may be shared.
class Engine {
 public:
  explicit Engine(const Model& model);
  ~Engine();

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

 private:
  struct State;
  void run_prompt(std::span<const int32_t> tokens, std::span<CacheRequest> requests,
                  size_t wanted_rows, const ProgressCallback& progress);

  const Model& model_;
  std::unique_ptr<State> state_;
};

}  // namespace restkv
