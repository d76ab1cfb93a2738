#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "restkv/generate.h"
#include "restkv/views.h"

namespace restkv {

/// Sequences that are continued together, a token each at a time: any of them joins between two
/// steps and leaves at its own end. The one loop from logits to tokens, for one sequence as for
/// many.
class Batch {
 public:
  /// What a member cost: its share of the steps it took part in.
  struct Cost {
    double seconds = 0;
    size_t steps = 0;
  };
  /// Appends `tokens[i]` to the sequence of `members[i]`; returns logits [tokens, V], valid until
  /// the next call.
  using Decode = std::function<Matrix<const float>(std::span<const int32_t> tokens,
                                                   std::span<const size_t> members)>;
  /// Hears of a member that has come to its end, and has left.
  using Ended = std::function<void(size_t member, const Cost& cost)>;

  Batch(Decode decode, Ended ended) : decode_(std::move(decode)), ended_(std::move(ended)) {}

  /// `source` says how the sequence whose last logits [V] are `logits` goes on, and must outlive
  /// its membership. It may end at once. `member`: a number of the caller's choosing, given away
  /// once.
  void join(size_t member, TokenSource& source, std::span<const float> logits);
  /// One token for every member. Throws what decoding or a source throws; a member whose source
  /// did is still in the batch.
  void step();
  /// The member leaves before its end; `ended` does not hear of it.
  void leave(size_t member);

  [[nodiscard]] size_t size() const { return members_.size(); }
  [[nodiscard]] bool empty() const { return members_.empty(); }

 private:
  Decode decode_;
  Ended ended_;
  // Of each member, in the order of joining.
  std::vector<size_t> members_;
  std::vector<int32_t> tokens_;
  std::vector<TokenSource*> sources_;
  std::vector<Cost> costs_;

  void remove(size_t place);
};

}  // namespace restkv
