#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "engine/layer_state.h"
#include "restkv/kv_cache.h"
#include "restkv/session.h"

namespace restkv {

/// What one sequence knows: its options, its cache, and what later evictions need to know of the
/// tokens that made it. What is only needed while tokens are computed belongs to a `Workspace`.
struct Sequence {
  SessionOptions options;
  KvCache cache;
  std::vector<LayerState> layers;
  std::vector<float> logits;  ///< [V] after the last token; empty before the first.
  size_t tokens = 0;          ///< Read so far.
  /// Tokens per head that a layer of average budget holds.
  size_t cached_tokens = 0;
  double compress_seconds = 0;  ///< Scoring, selection and gathering, in all.

  /// Whether the cache is ever cut.
  [[nodiscard]] bool evicts() const { return options.compression.method != "full"; }
  /// What must not pass the budget: the tokens held or, where they are numbered anew, the positions
  /// given away, which are more if a method cut deeper than it had to.
  [[nodiscard]] size_t filled() const {
    return options.compact_positions ? cache.next_position : cached_tokens;
  }
  /// Whether the cache must be cut to `budget` once `added` tokens have joined it.
  [[nodiscard]] bool passes(int budget, size_t added) const {
    return evicts() && filled() + added > static_cast<size_t>(budget);
  }
  /// Tokens that evictions leave while single tokens are decoded.
  [[nodiscard]] int decode_budget() const {
    return options.decode_budget != 0 ? options.decode_budget : options.compression.budget;
  }
  /// Filled so far, the cache is cut back to the decode budget after a single token.
  [[nodiscard]] size_t eviction_due_at() const {
    const auto budget = static_cast<size_t>(decode_budget());
    const size_t most = Session::kUnlimited;
    return options.interval == 0 ? most : budget + std::min(options.interval, most - budget);
  }
};

}  // namespace restkv
