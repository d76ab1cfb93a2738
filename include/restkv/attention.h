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
};

/// Side of the tiles that a `TileMask` speaks of.
inline constexpr size_t kMaskTile = 64;

/// What block-sparse attention computes: [query_heads, blocks, tiles], block b of queries being
/// rows [64 b, 64 b + 64) of the call, tile t rows [64 t, 64 t + 64) of the keys. A tile is left
/// out where the byte is 0, unless it reaches the positions of the block itself. No data: all
/// tiles.
using TileMask = Heads<const uint8_t>;

/// Causal attention of a block of prompt positions over all positions up to it.
///
/// queries [query_heads, m, d]: row i stands at position `first + i`; keys [kv_heads, >= first + m,
/// d]; values [kv_heads, >= first + m, dv]; out [query_heads, m, dv]. Query head h reads KV head
/// h / (query_heads / kv_heads). Online softmax in float32, tiles in cache, no m x n matrix.
/// With `AttentionPrecision::kBf16` a logit is off by about 2^-9 sum over c of |q_c k_c| times the
/// scale, a weight and a value by 2^-9 of it.
/// If `lse` [query_heads, m] is given, it receives the logarithm of each row's softmax
/// denominator: log(sum over j of exp(z_j)), z the logits.
/// With a `mask`, softmax and denominator are those of the keys in kept tiles. A mask that keeps
/// all tiles changes no bit of the result. Needs `causal`. Throws `Error`: kInvalidArgument if
/// shapes do not fit, kUnsupported if the processor has no instructions for the precision.
void prefill_attention(Heads<const float> queries, Heads<const float> keys,
                       Heads<const float> values, size_t first, const AttentionOptions& options,
                       Heads<float> out, Matrix<float> lse = {}, const TileMask& mask = {});

/// Adds the attention that every position received from a block of queries: sums[h][j] += sum over
/// rows i of exp(z_ij - lse[h][i]). Called for block after block, it gives the column sums of
/// the attention matrix in O(query_heads * n) memory.
///
/// Shapes, options and mask as in `prefill_attention`, which computes `lse` [query_heads, m];
/// sums [query_heads, >= first + m] (without `causal`: >= keys.rows). Throws `Error`
/// (kInvalidArgument) if shapes do not fit.
void attention_sums(Heads<const float> queries, Heads<const float> keys, size_t first,
                    const AttentionOptions& options, Matrix<const float> lse, Matrix<float> sums,
                    const TileMask& mask = {});

/// How kept keys and values are stored. Quantised keys have a scale per channel in groups of 32
/// tokens, quantised values one per token (and 64 channels); the last 32 to 63 tokens of a head
/// stay in half precision.
enum class KvType : uint8_t {
  kF16,  ///< IEEE half precision.
  kF32,  ///< float: twice the memory, for exact comparisons.
  kQ8,   ///< 8 bits and a scale.
  kQ4,   ///< 4 bits and a scale.
};

/// "f16", "f32", "q8" or "q4".
[[nodiscard]] std::string_view kv_type_name(KvType type);
/// The type of that name. Throws `Error` (kInvalidArgument) with the names there are.
[[nodiscard]] KvType find_kv_type(std::string_view name);

/// Rows of one cache head, as `KvCache` lays them out (src/kv/kv_layout.h): groups of 32 rows with
/// their keys channel by channel, then the rows that fill no group yet.
struct CachedHead {
  const std::byte* data = nullptr;
  size_t count = 0;
  size_t first = 0;  ///< Rows stored before these `count`, which a sliding window hides; below 32.
  KvType type = KvType::kF16;
};

/// Attention of one new token over a ragged cache: every cache head has its own number of rows.
///
/// queries [query_heads, d]; out [query_heads, dv]; query head h reads cache head
/// h / (query_heads / heads.size()). The rows are all visible (the caller drops what a sliding
/// window no longer sees), so `options.sliding_window` is not read. A head with no rows gives 0.
/// Allocates nothing once a thread has called it with shapes as large.
/// If `weights` [query_heads, >= most rows of a head] is given, it receives the softmax weights
/// that the rows of each query head's cache head got; beyond them it stays as it was. Throws
/// `Error` (kInvalidArgument) if shapes do not fit.
void decode_attention(Matrix<const float> queries, std::span<const CachedHead> heads,
                      const AttentionOptions& options, Matrix<float> out,
                      Matrix<float> weights = {});

}  // namespace restkv
