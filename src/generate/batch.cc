#include "generate/batch.h"

#include <algorithm>

#include "base/stopwatch.h"

namespace restkv {

void Batch::join(size_t member, TokenSource& source, std::span<const float> logits) {
  const std::optional<int32_t> token = source.next(logits);
  if (!token) {
    ended_(member, {});
    return;
  }
  members_.push_back(member);
  tokens_.push_back(*token);
  sources_.push_back(&source);
  costs_.emplace_back();
}

void Batch::step() {
  if (members_.empty()) return;
  const Stopwatch watch;
  const Matrix<const float> logits = decode_(tokens_, members_);
  const double share = watch.seconds() / static_cast<double>(members_.size());
  size_t place = 0;
  for (size_t row = 0; row < logits.rows; ++row) {
    costs_[place].seconds += share;
    ++costs_[place].steps;
    if (const std::optional<int32_t> token = sources_[place]->next(logits.row_span(row))) {
      tokens_[place++] = *token;
      continue;
    }
    const size_t member = members_[place];
    const Cost cost = costs_[place];
    remove(place);
    ended_(member, cost);
  }
}

void Batch::leave(size_t member) {
  const auto found = std::ranges::find(members_, member);
  if (found != members_.end()) remove(static_cast<size_t>(found - members_.begin()));
}

void Batch::remove(size_t place) {
  const auto at = static_cast<std::ptrdiff_t>(place);
  members_.erase(members_.begin() + at);
  tokens_.erase(tokens_.begin() + at);
  sources_.erase(sources_.begin() + at);
  costs_.erase(costs_.begin() + at);
}

}  // namespace restkv
