#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "restkv/precision.h"
#include "restkv/views.h"

/// Attention on plain arrays: exact causal attention for prompts and ragged attention for decoding.
/// Instruction sets are chosen at run time; results do not depend on the number of threads.
namespace restkv {

struct AttentionOptions {
  float scale = 0.0F;         ///< Softmax scale; 0 means 1/sqrt(head_dim).
  float softcap = 0.0F;       ///< c in c * tanh(z / c) on the scaled logits (Gemma 2); 0: none.
  size_t sliding_window = 0;  ///< Position i sees j iff i - W < j <= i; 0: all earlier positions.
  bool causal = true;         ///< false: every row sees every key, and there is no sliding window.
  AttentionPrecision precision = AttentionPrecision::kF32;  ///< Read by `prefill_attention` only.
  /// Of a block that is computed in parts: the end of the keys that all parts have. In 8 bits, keys
  /// are rounded together with their neighbours, seen or not. 0: the last query's own key ends
  /// them. Read by `prefill_attention` only.
  size_t keys_end = 0;
  /// Added to the logits of a key, after the soft cap: [kv_heads, >= keys seen]. Empty: nothing.
  /// `decode_attention` reads those of `CachedHead` instead.
  Matrix<const float> bias = {};
  /// A column of the softmax without a value for each query head, as its logit, [query_heads]
  /// (gpt-oss): it takes a part of the weights and counts in `lse`. Empty: none. `attention_sums`
  /// finds it in the denominators.
  std::span<const float> sink_logits = {};
};

/// Rows and columns of a tile of `TileMask`.
inline constexpr size_t kMaskTile = 64;

/// The tiles that block-sparse attention computes: [query_heads, blocks, tiles]. Block b holds the
/// rows [64 b, 64 b + 64) of the queries, tile t the rows [64 t, 64 t + 64) of the keys. A tile is
/// skipped where the byte is 0, unless it reaches the positions of the block itself. An empty mask
/// keeps all tiles.
using TileMask = Heads<const uint8_t>;

/// Causal attention of a block of prompt positions over all positions up to it. Computes tiles with
/// an online softmax in float32 (FlashAttention, Dao et al. 2022) and stores no m x n matrix.
///
/// queries [query_heads, m, d]: row i has position `first + i`; keys [kv_heads, >= first + m, d];
/// values [kv_heads, >= first + m, dv]; out [query_heads, m, dv]. Query head h reads KV head
/// h / (query_heads / kv_heads).
///
/// With `AttentionPrecision::kBf16` the error of a logit is about 2^-9 sum over c of |q_c k_c|
/// times the scale; weights and values have a relative error of 2^-9. `lse` [query_heads, m], if
/// given, receives the logarithm of each row's softmax denominator: log(sum over j of exp(z_j)) of
/// the logits z, the sink's included. With a `mask`, softmax and denominator cover the keys of kept
/// tiles only. A mask that keeps all tiles changes no bit of the result. A mask needs `causal`.
///
/// A block may be computed in parts of any rows: with the same `keys_end` no bit is different.
///
/// Throws `Error`: kInvalidArgument if shapes do not fit, kUnsupported if the processor has no
/// instructions for the precision.
void prefill_attention(Heads<const float> queries, Heads<const float> keys,
                       Heads<const float> values, size_t first, const AttentionOptions& options,
                       Heads<float> out, Matrix<float> lse = {}, const TileMask& mask = {});

/// Adds the attention that every position receives from a block of queries: sums[h][j] += sum over
/// rows i of exp(z_ij - lse[h][i]). Calls for all blocks give the column sums of the attention
/// matrix in O(query_heads * n) memory.
///
/// Shapes, options and mask as in `prefill_attention`, which computes `lse` [query_heads, m];
/// sums [query_heads, >= first + m] (without `causal`: >= keys.rows). Throws `Error`
/// (kInvalidArgument) if shapes do not fit.
void attention_sums(Heads<const float> queries, Heads<const float> keys, size_t first,
                    const AttentionOptions& options, Matrix<const float> lse, Matrix<float> sums,
                    const TileMask& mask = {});

/// Storage type of kept keys and values. Quantised keys have one scale per channel and block of 32
/// tokens, quantised values one per token and 64 channels. The last 32 to 63 tokens of a quantised
/// head stay in half precision.
enum class KvType : uint8_t {
  kF16,  ///< IEEE half precision.
  kF32,  ///< float: twice the memory, for exact comparisons.
  kQ8,   ///< 8 bits and a scale.
  kQ4,   ///< 4 bits and a scale.
};

/// "f16", "f32", "q8" or "q4".
[[nodiscard]] std::string_view kv_type_name(KvType type);
/// The type of that name. Throws `Error` (kInvalidArgument) listing the known names.
[[nodiscard]] KvType find_kv_type(std::string_view name);

/// Rows of one cache head in the layout of `KvCache` (src/kv/kv_layout.h): packed blocks of 32 rows
/// with keys stored channel by channel, then the residual rows that do not fill a block yet.
struct CachedHead {
  const std::byte* data = nullptr;
  size_t count = 0;
  size_t first = 0;  ///< Stored rows before them that a sliding window hides; below 32.
  KvType type = KvType::kF16;
  /// Added to the logits of each stored row, hidden ones included, after the soft cap: [first +
  /// count]. Null: nothing.
  const float* bias = nullptr;
};

/// Attention of one new token over a ragged cache: every cache head has its own number of rows.
///
/// queries [query_heads, d]; out [query_heads, dv]; query head h reads cache head
/// h / (query_heads / heads.size()). All rows are visible: the caller drops rows outside a sliding
/// window, and `options.sliding_window` is not read. A head without rows gives 0. Repeated calls
/// from one thread with shapes no larger than before allocate nothing.
/// `weights` [query_heads, >= rows of the longest head], if given, receives the softmax weights of
/// the rows; elements beyond a head's rows keep their values. Throws `Error` (kInvalidArgument) if
/// shapes do not fit.
void decode_attention(Matrix<const float> queries, std::span<const CachedHead> heads,
                      const AttentionOptions& options, Matrix<float> out,
                      Matrix<float> weights = {});

}  // namespace restkv
