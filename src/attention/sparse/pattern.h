#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "restkv/attention.h"
#include "restkv/sparse.h"
#include "restkv/views.h"

namespace restkv {

// Every pattern lives in a file of its own and is listed in registry.cc.
SparsePattern a_shape_pattern();
SparsePattern vertical_slash_pattern();
SparsePattern flexprefill_pattern();
SparsePattern xattention_pattern();
SparsePattern sampled_pattern();

/// Where tiles are marked: [query_heads, blocks, tiles], as `TileMask`.
using TileMarks = Heads<uint8_t>;

/// A layer (or some heads of it) as a pattern sees it before its first block.
struct SparseLayer {
  /// Of the logits, as in attention: scale and softcap are read.
  AttentionOptions attention;
  /// For patterns that look ahead, else empty: all keys [kv_heads, rows, d], and the last queries
  /// [query_heads, at most 64, d], which stand at the last of these rows.
  Heads<const float> keys, last_queries;
};

/// What a pattern keeps of one layer.
class LayerPattern {
 public:
  LayerPattern() = default;
  LayerPattern(const LayerPattern&) = delete;
  LayerPattern& operator=(const LayerPattern&) = delete;
  virtual ~LayerPattern() = default;

  /// Sets bytes of `marks`, which come as 0, for the tiles that a block of queries [query_heads, m,
  /// d] keeps; row i stands at key row `first + i`, and keys [kv_heads, >= first + m, d] are there
  /// up to the last of them. Tiles behind a query are never looked at and may be marked.
  virtual void mark(Heads<const float> queries, Heads<const float> keys, size_t first,
                    TileMarks marks) = 0;
};

inline size_t tiles_of(size_t tokens) { return (tokens + kMaskTile - 1) / kMaskTile; }

/// Turns logits into softmax weights, in place.
void softmax_weights(std::span<float> logits);

// Choosing among scores, which must not be negative; of equal ones the first wins.

/// Marks the fewest of the tiles with these scores whose sum reaches `share` of all, and at least
/// `least` tiles.
void mark_fewest(std::span<const float> scores, double share, size_t least, uint8_t* marks);

/// Indices of the `count` largest scores.
std::vector<uint32_t> largest(std::span<const float> scores, size_t count);
/// Indices of the fewest scores, and at least `least`, whose sum reaches `share` of all.
std::vector<uint32_t> fewest_reaching(std::span<const float> scores, double share, size_t least);

// Checks shared by the patterns; each throws `Error` (kInvalidArgument).
void check_tokens(std::string_view option, int tokens);
void check_share(std::string_view option, double share);

}  // namespace restkv
