#include "server/scheduler/footprint.h"

#include <algorithm>

#include "kv/kv_layout.h"
#include "model/weights.h"
#include "restkv/compress.h"
#include "restkv/engine.h"
#include "restkv/generate.h"
#include "restkv/kv_cache.h"
#include "restkv/precision.h"
#include "restkv/repeat.h"
#include "restkv/threads.h"

namespace restkv::server {
namespace {

constexpr size_t kFloat = sizeof(float);
/// Tokens that go through a layer together.
constexpr size_t kBlock = 512;
/// Rows for which the observation window keeps its scores' memory.
constexpr size_t kKeptScores = 16384;

bool evicts(const SessionOptions& options) { return options.compression.method != "full"; }

/// Rows that a head of average budget holds when a prompt has been read.
size_t rows_after_prompt(const SessionOptions& options, const PlannedTokens& tokens) {
  const size_t all = tokens.held + tokens.prompt;
  if (!evicts(options) || tokens.prompt == 0 || tokens.reserved) return all;
  return std::min(all, static_cast<size_t>(options.compression.budget));
}

/// The most that it ever holds.
size_t most_rows(const SessionOptions& options, const PlannedTokens& tokens) {
  const size_t all = tokens.before + tokens.prompt + tokens.written;
  if (!evicts(options) || keeps_layers(options.compression)) return all;
  const size_t read = rows_after_prompt(options, tokens);
  size_t end = read + tokens.written;
  if (options.interval > 0 && !tokens.reserved) {
    const auto budget = static_cast<size_t>(
        options.decode_budget != 0 ? options.decode_budget : options.compression.budget);
    end = std::min(end, std::max(read, budget + options.interval) + 1);
  }
  return std::max(tokens.held, end);
}

size_t cache_heads(const ModelConfig& c, const SessionOptions& options) {
  return options.compression.per_query_head && evicts(options) ? c.query_heads : c.kv_heads;
}

/// Of one head of a cache, with the room that heads get in advance.
size_t head_bytes(const ModelConfig& c, const SessionOptions& options, size_t rows) {
  const KvLayout layout{options.kv_type, c.key_dim, c.value_dim};
  const size_t room = rows + std::max<size_t>(64, rows / 32);
  return layout.max_bytes(room) +
         room * (sizeof(int32_t) + (refits(options.compression) ? kFloat : 0));
}

/// What later compressions need to know of a layer.
size_t state_bytes(const ModelConfig& c, const CompressionOptions& options, size_t rows) {
  size_t bytes = 2 * observed_queries(options) * c.query_heads * c.key_dim * kFloat;
  if (needs_attention_sums(options)) bytes += (rows + rows / 2) * c.query_heads * kFloat;
  if (watched_tokens(options) != WatchedTokens::kNone) {
    bytes += (rows + rows / 2) * c.query_heads * kFloat;
  }
  if (needs_query_statistics(options)) {
    bytes += c.query_heads * c.key_dim * (c.key_dim + 1) * sizeof(double);
  }
  return bytes;
}

/// One layer's matrices in the precision of prompts; of experts one matrix at a time.
size_t converted_bytes(const Model& model) {
  size_t largest = 0;
  for (const LayerWeights& layer : model.weights().layers) {
    size_t weights = 0;
    for_each_linear(layer, [&](const Linear& linear) { weights += linear.rows() * linear.cols(); });
    if (layer.experts) weights += layer.experts->gate_up.front().rows() * model.config().width;
    largest = std::max(largest, weights);
  }
  switch (model.linear_precision()) {
    case LinearPrecision::kBf16:
      return largest * 2;
    case LinearPrecision::kInt8:
      return largest + largest / 32 * kFloat;
    default:
      return largest * kFloat;
  }
}

size_t sequence_bytes(const ModelConfig& c, const SessionOptions& options,
                      const PlannedTokens& tokens) {
  const size_t rows = most_rows(options, tokens);
  const size_t all = tokens.before + tokens.prompt + tokens.written;
  size_t bytes = c.vocabulary * kFloat;
  for (const size_t window : c.windows) {
    if (window > 0) {
      bytes += c.kv_heads * head_bytes(c, options, std::min(all, window + kBlockRows));
    } else {
      bytes += cache_heads(c, options) * head_bytes(c, options, rows) +
               state_bytes(c, options.compression, rows);
    }
  }
  return bytes;
}

/// Tokens that a repeat pass feeds for a prompt of `added` tokens, and the most at a time.
struct FedTokens {
  size_t all = 0, longest = 0;
};
FedTokens fed_tokens(const SessionOptions& options, size_t added) {
  const size_t chunk = repeat_chunk(options.compression);
  if (chunk == 0 || !options.repeat) return {};
  const size_t longest = longest_feed(added, chunk, *options.repeat);
  const size_t feeds = (added + chunk - 1) / chunk;
  return {added + feeds * (longest - std::min(added, chunk)), longest};
}

/// A repeat pass of `added` tokens: hidden states of what is fed, keys and values of the longest
/// feed, and the logits that a block of it has had in every tile of keys.
size_t repeat_bytes(const ModelConfig& c, const SessionOptions& options, size_t added) {
  const auto [fed, longest] = fed_tokens(options, added);
  if (fed == 0) return 0;
  const size_t chunk = repeat_chunk(options.compression);
  const size_t keys = longest + std::min(added, chunk) + 2 * kMaskTile;
  return fed * (c.width * kFloat + sizeof(int32_t)) + longest * sizeof(size_t) +
         cache_heads(c, options) * longest * (c.key_dim + c.value_dim) * kFloat +
         c.query_heads * kBlock * (c.key_dim + 2 * keys / kMaskTile) * kFloat;
}

/// Layers that may be cut again until the last one is known: their scores, twice, and their rows
/// before they are packed.
size_t reallocation_bytes(const ModelConfig& c, const SessionOptions& options, size_t rows) {
  if (!reallocates(options.compression)) return 0;
  size_t row = 2 * kFloat;
  if (is_quantized(options.kv_type)) row += (c.key_dim + c.value_dim) * sizeof(uint16_t);
  const size_t kept = std::min(rows, static_cast<size_t>(options.compression.budget));
  return cache_heads(c, options) * (c.global_layers() * kept + rows) * row;
}

/// Numbers that a token has on its way through a layer.
size_t activations(const ModelConfig& c) {
  return 2 * c.width + (c.query_heads + c.kv_heads) * (c.key_dim + c.value_dim) + 2 * c.ffn_width;
}
/// Rows of experts that are computed together, for n tokens.
size_t expert_bytes(const ModelConfig& c, size_t n) {
  const ExpertsConfig& e = c.experts;
  if (e.count == 0) return 0;
  constexpr size_t kTogether = 128;
  return n * (e.count + 4 * e.used) * kFloat + e.count * 4 * sizeof(size_t) +
         std::min(n * e.used, std::max(n, kTogether)) * 2 * (c.width + e.width) * kFloat;
}
/// Of a block of a prompt of n tokens, which keeps them while it pauses.
size_t block_bytes(const ModelConfig& c, size_t n) {
  const size_t rows = std::min(n, kBlock);
  return rows * activations(c) * kFloat + expert_bytes(c, rows);
}

/// What kept rows shall stand for, in layers that are not final, and least squares of a head on
/// each thread.
size_t refit_bytes(const ModelConfig& c, const SessionOptions& options, size_t added, size_t rows) {
  const CompressionOptions& compression = options.compression;
  if (!refits(compression)) return 0;
  const size_t repeated = std::min(repeat_queries(compression), fed_tokens(options, added).all);
  const size_t count = repeated > 0 ? repeated : static_cast<size_t>(compression.window);
  const size_t layers = reallocates(compression) ? c.global_layers() : 1;
  const size_t targets = c.query_heads * count * (c.key_dim + c.value_dim + 1) * kFloat;
  const size_t heads = cache_heads(c, options);
  const size_t queries = c.query_heads / heads * count;
  const size_t kept = layers > 1 ? rows : std::min(rows, static_cast<size_t>(compression.budget));
  const size_t smaller = std::min(queries, kept);
  const size_t fit =
      5 * queries * kept + 3 * smaller * smaller + 4 * (queries + kept) * (c.key_dim + c.value_dim);
  return layers * targets + c.query_heads * repeated * c.key_dim * kFloat +
         std::min(heads, static_cast<size_t>(num_threads())) * fit * sizeof(double);
}

size_t prompt_bytes(const Model& model, const SessionOptions& options,
                    const PlannedTokens& tokens) {
  if (tokens.prompt == 0) return 0;
  const ModelConfig& c = model.config();
  const CompressionOptions& compression = options.compression;
  const bool cuts = evicts(options) && !tokens.reserved;
  const size_t all = tokens.held + tokens.prompt;
  const size_t added = options.chunk > 0 ? std::min(options.chunk, tokens.prompt) : tokens.prompt;
  // Before the last chunk.
  const size_t prefix =
      cuts && !keeps_layers(compression)
          ? std::min(all - added, std::max(tokens.held, static_cast<size_t>(compression.budget)))
      : tokens.reserved ? all - added
                        : tokens.before + tokens.prompt - added;
  const size_t rows = prefix + added;

  size_t bytes = added * (c.width * kFloat + sizeof(size_t));
  bytes += (prefix > 0 ? cache_heads(c, options) : c.kv_heads) * rows *
           ((c.key_dim + c.value_dim) * kFloat + sizeof(int32_t));
  if (added >= model.weights().prefill_gemm_min_rows) bytes += converted_bytes(model);
  // What nobody chooses from is neither repeated nor allocated nor refitted.
  if (cuts) {
    bytes += repeat_bytes(c, options, added) + reallocation_bytes(c, options, rows) +
             refit_bytes(c, options, added, rows);
  }
  bytes += block_bytes(c, cuts && repeat_chunk(compression) > 0 ? kBlock : added);
  // The attention that is observed, and scores.
  bytes += state_bytes(c, compression, rows) + kBlock * c.query_heads * (c.key_dim + 1) * kFloat;
  if (cuts) bytes += 4 * rows * c.query_heads * kFloat;
  // Rows that a head might keep, and W_O.
  if (cuts && chooses_budget(compression)) {
    bytes += (cache_heads(c, options) * rows * (c.key_dim + c.value_dim) +
              c.width * c.query_heads * c.value_dim) *
             kFloat;
  }
  // Keys are multiplied with the moments.
  if (needs_query_statistics(compression)) bytes += rows * c.kv_heads * c.key_dim * kFloat;
  if (tokens.scored) {
    // A block's logits, and the order of the likeliest tokens on up to 32 threads.
    const size_t block = std::min(Session::kLogitsRows, added) + 32;
    bytes += block * c.vocabulary * kFloat;
    bytes += tokens.prompt * (sizeof(TokenLogprob) + std::min(*tokens.scored, c.vocabulary) *
                                                         sizeof(TokenLogprob::likeliest[0]));
  }
  return bytes;
}

}  // namespace

Footprint footprint(const Model& model, const SessionOptions& options,
                    const PlannedTokens& tokens) {
  return {.sequence = sequence_bytes(model.config(), options, tokens),
          .prompt = prompt_bytes(model, options, tokens)};
}

size_t engine_footprint(const Model& model) {
  const ModelConfig& c = model.config();
  // Angles of all positions; scores of prompts that are not long; the layer that was converted
  // last.
  return (Engine::kMaxBatch * (activations(c) + c.vocabulary + c.width) +
          c.context_length * (c.rope.dim + c.window_rope.dim) +
          4 * std::min(c.context_length, kKeptScores) * c.query_heads) *
             kFloat +
         expert_bytes(c, Engine::kMaxBatch) + block_bytes(c, kBlock) + converted_bytes(model);
}

}  // namespace restkv::server
