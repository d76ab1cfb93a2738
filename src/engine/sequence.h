#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "engine/layer_state.h"
#include "restkv/kv_cache.h"
#include "restkv/session.h"

namespace restkv {

/// State of one sequence: its options, its cache, and what later evictions need. Memory that is
/// needed only during a computation belongs to a `Workspace`.
struct Sequence {
  SessionOptions options;
  KvCache cache;
  std::vector<LayerState> layers;
  std::vector<float> logits;  ///< [V] after the last token; empty before the first.
  size_t tokens = 0;          ///< Tokens read so far.
  /// Cached tokens per head of a layer of average budget.
  size_t cached_tokens = 0;
  double compress_seconds = 0;  ///< Total of scoring, selection and gathering.

  /// Whether the cache is ever cut.
  [[nodiscard]] bool evicts() const { return options.compression.method != "full"; }
  /// The number that the budget limits: cached tokens or, with compact positions, the next
  /// position, which is larger if a method evicted more than it had to.
  [[nodiscard]] size_t filled() const {
    return options.compact_positions ? cache.next_position : cached_tokens;
  }
  /// Whether something of the cache may have to go after `added` more tokens.
  [[nodiscard]] bool passes(int budget, size_t added) const {
    return evicts() && (filled() + added > static_cast<size_t>(budget) ||
                        least_score(options.compression).has_value());
  }
  /// Tokens that evictions leave during decoding.
  [[nodiscard]] int decode_budget() const {
    return options.decode_budget != 0 ? options.decode_budget : options.compression.budget;
  }
  /// Value of `filled` at which a single token triggers an eviction to the decode budget.
  [[nodiscard]] size_t eviction_due_at() const {
    const auto budget = static_cast<size_t>(decode_budget());
    const size_t most = Session::kUnlimited;
    return options.interval == 0 ? most : budget + std::min(options.interval, most - budget);
  }
  /// Whether a single token has made an eviction due. Where scores alone decide what goes, the
  /// budget may never be reached: every `interval` tokens are looked at.
  [[nodiscard]] bool eviction_due() const {
    return filled() >= eviction_due_at() ||
           (options.interval > 0 && tokens % options.interval == 0 &&
            least_score(options.compression).has_value());
  }
};

}  // namespace restkv
