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

/// Sequences that are decoded together, one token each per step (continuous batching). A sequence
/// may join between two steps and leaves at its own end. Single sequences use the same loop.
class Batch {
 public:
  /// Cost of a member: its share of the steps that it took part in.
  struct Cost {
    double seconds = 0;
    size_t steps = 0;
  };
  /// Appends `tokens[i]` to the sequence of `members[i]`; returns logits [tokens, V], valid until
  /// the next call.
  using Decode = std::function<Matrix<const float>(std::span<const int32_t> tokens,
                                                   std::span<const size_t> members)>;
  /// Called when a member has ended and left.
  using Ended = std::function<void(size_t member, const Cost& cost)>;

  Batch(Decode decode, Ended ended) : decode_(std::move(decode)), ended_(std::move(ended)) {}

  /// Adds the sequence whose last logits [V] are `logits`. `source` gives its next tokens and must
  /// outlive its membership; it may end at once. `member` is a unique number chosen by the caller.
  void join(size_t member, TokenSource& source, std::span<const float> logits);
  /// Decodes one token for every member. Rethrows exceptions of decoding and of sources; a member
  /// whose source throws remains in the batch.
  void step();
  /// Removes a member before its end, without a call of `ended`.
  void leave(size_t member);

  [[nodiscard]] size_t size() const { return members_.size(); }
  [[nodiscard]] bool empty() const { return members_.empty(); }

 private:
  Decode decode_;
  Ended ended_;
  // One element per member, in the order of joining.
  std::vector<size_t> members_;
  std::vector<int32_t> tokens_;
  std::vector<TokenSource*> sources_;
  std::vector<Cost> costs_;

  void remove(size_t place);
};

}  // namespace restkv
