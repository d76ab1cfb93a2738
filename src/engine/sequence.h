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
  /// No cut is due before more than so many are `filled`: see `Session::reserve`.
  size_t reserved = 0;
  size_t cut_at = 0;  ///< Tokens that had been read when the cache was last cut; 0: never.
  double compress_seconds = 0;  ///< Total of scoring, selection and gathering.

  /// Whether the cache is ever cut.
  [[nodiscard]] bool evicts() const { return options.compression.method != "full"; }
  /// The number that the budget limits: cached tokens or, with compact positions, the next
  /// position, which is larger if a method evicted more than it had to.
  [[nodiscard]] size_t filled() const {
    return options.compact_positions ? cache.next_position : cached_tokens;
  }
  /// Tokens read since the last cut.
  [[nodiscard]] size_t fresh() const { return tokens - cut_at; }
  /// The number that a budget, `budget` or one that chooses itself up to it, allows until the next
  /// cut. The latter is what the last cut has left.
  [[nodiscard]] size_t allowed(int budget) const {
    const auto most = static_cast<size_t>(budget);
    if (!chooses_budget(options.compression)) return most;
    const size_t least = static_cast<size_t>(options.compression.window) + 1;
    return std::min(most, std::max(least, filled() - std::min(filled(), fresh())));
  }
  /// Whether something of the cache may have to go after `added` more tokens: it exceeds that, and
  /// what is reserved, or scores alone decide.
  [[nodiscard]] bool passes(int budget, size_t added) const {
    return evicts() && (filled() + added > std::max(allowed(budget), reserved) ||
                        least_score(options.compression).has_value());
  }
  /// Whether `added` more tokens are on top of the budget, so that nothing of them is ever chosen.
  [[nodiscard]] bool has_room_for(size_t added) const { return filled() + added <= reserved; }
  /// Tokens that evictions leave during decoding.
  [[nodiscard]] int decode_budget() const {
    return options.decode_budget != 0 ? options.decode_budget : options.compression.budget;
  }
  /// Value of `filled` at which a single token triggers an eviction to the decode budget.
  [[nodiscard]] size_t eviction_due_at() const {
    const size_t budget = allowed(decode_budget());
    const size_t most = Session::kUnlimited;
    if (options.interval == 0) return most;
    return std::max(budget + std::min(options.interval, most - budget), reserved + 1);
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
