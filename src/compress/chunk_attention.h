#pragma once

#include <cstddef>
#include <span>

#include "restkv/precision.h"
#include "restkv/views.h"

namespace restkv {

/// How the logits of `chunk_attention_sums` are computed; there is no softmax scale.
struct ChunkAttention {
  size_t length = 1;  ///< Rows of a chunk.
  float softcap = 0.0F;
  std::span<const float> sink_logits = {};  ///< [query_heads], as in `AttentionOptions`; or empty.
  AttentionPrecision precision = AttentionPrecision::kF32;
};

/// The attention that keys get from the queries of their chunk, all of which see all of its keys
/// (Compactor, arXiv 2507.08143): sums[h][j] = sum over i of A[h, i, j]. Chunks begin at row 0. A
/// short last one counts as filled up with tokens of zeros: their keys have the logit 0, and their
/// queries look at every key alike.
///
/// queries [query_heads, m, d], keys [kv_heads, m, d], sums [query_heads, m]. Returns false, with
/// `sums` undefined, if a logit is NaN or infinite.
[[nodiscard]] bool chunk_attention_sums(Heads<const float> queries, Heads<const float> keys,
                                        const ChunkAttention& options, Matrix<float> sums);

}  // namespace restkv
