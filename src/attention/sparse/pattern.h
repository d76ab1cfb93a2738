#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "restkv/attention.h"
#include "restkv/sparse.h"
#include "restkv/views.h"

namespace restkv {

// Every pattern has a file of its own and is listed in registry.cc.
SparsePattern a_shape_pattern();
SparsePattern vertical_slash_pattern();
SparsePattern flexprefill_pattern();
SparsePattern xattention_pattern();
SparsePattern sampled_pattern();

/// Marks of kept tiles: [query_heads, blocks, tiles], as in `TileMask`.
using TileMarks = Heads<uint8_t>;

/// Inputs of a pattern before the first block of a layer (or of some of its heads).
struct SparseLayer {
  /// Options of the logits: scale, softcap and precision are read.
  AttentionOptions attention;
  /// All keys [kv_heads, rows, d] and the queries of their last rows [query_heads, at most 64, d].
  /// Empty unless the pattern looks ahead.
  Heads<const float> keys, last_queries;
};

/// A pattern for one layer.
class LayerPattern {
 public:
  LayerPattern() = default;
  LayerPattern(const LayerPattern&) = delete;
  LayerPattern& operator=(const LayerPattern&) = delete;
  virtual ~LayerPattern() = default;

  /// Sets bytes of `marks`, initially 0, for the tiles that a block of queries [query_heads, m, d]
  /// keeps. Row i is key row `first + i`; keys [kv_heads, >= first + m, d] are known up to the last
  /// query. Tiles after a query are ignored and may be marked.
  virtual void mark(Heads<const float> queries, Heads<const float> keys, size_t first,
                    TileMarks marks) = 0;
};

inline size_t tiles_of(size_t tokens) { return (tokens + kMaskTile - 1) / kMaskTile; }

/// Turns logits into softmax weights, in place.
void softmax_weights(std::span<float> logits);

// Selection by non-negative scores; the first of equal scores wins.

/// Marks the fewest tiles whose scores sum up to `share` of all, and at least `least` tiles.
void mark_fewest(std::span<const float> scores, double share, size_t least, uint8_t* marks);

/// Indices of the `count` largest scores.
std::vector<uint32_t> largest(std::span<const float> scores, size_t count);
/// Indices of the fewest scores that sum up to `share` of all, and at least `least` of them.
std::vector<uint32_t> fewest_reaching(std::span<const float> scores, double share, size_t least);

// Checks shared by the patterns; each throws `Error` (kInvalidArgument).
void check_tokens(std::string_view option, int tokens);
void check_share(std::string_view option, double share);

}  // namespace restkv
