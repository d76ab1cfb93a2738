#include "server/scheduler/kept_sequences.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace restkv::server {
namespace {

/// How many tokens of `tokens` need not be read if `sequence` is there.
size_t saved_by(const KeptSequence& sequence, std::span<const int32_t> tokens) {
  const auto differ = std::ranges::mismatch(tokens, sequence.tokens);
  const auto common = static_cast<size_t>(differ.in1 - tokens.begin());
  if (common == sequence.tokens.size()) return common;
  const size_t reusable = sequence.session.reusable_tokens(common, tokens.size());
  return reusable >= KeptSequences::kLeastCommon ? reusable : 0;
}

}  // namespace

int64_t nanoseconds_since_1970() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void KeptSequences::keep(KeptSequence sequence) {
  if (most_ == 0) return;
  std::erase_if(sequences_, [&](const KeptSequence& other) {
    if (other.key != sequence.key || other.tokens != sequence.tokens) return false;
    sequence.waited_for.insert(sequence.waited_for.end(), other.waited_for.begin(),
                               other.waited_for.end());
    return true;
  });
  while (sequences_.size() >= most_ && drop_oldest()) {
  }
  sequence.used = nanoseconds_since_1970();
  sequences_.push_front(std::move(sequence));
}

KeptSequences::Found KeptSequences::find(std::span<const int32_t> tokens, const std::string& key) {
  auto best = sequences_.end();
  size_t most = 0;
  for (auto it = sequences_.begin(); it != sequences_.end(); ++it) {
    if (it->key != key) continue;
    const size_t saved = saved_by(*it, tokens);
    if (saved <= most) continue;
    most = saved;
    best = it;
  }
  if (best == sequences_.end()) return {};
  sequences_.splice(sequences_.begin(), sequences_, best);
  sequences_.front().used = nanoseconds_since_1970();
  return {.sequence = &sequences_.front(), .tokens = most};
}

void KeptSequences::let_go(RequestId request) {
  for (KeptSequence& sequence : sequences_) std::erase(sequence.waited_for, request);
}

bool KeptSequences::let_all_go() {
  bool any = false;
  for (KeptSequence& sequence : sequences_) {
    any = any || !sequence.waited_for.empty();
    sequence.waited_for.clear();
  }
  return any;
}

bool KeptSequences::drop_oldest(const KeptSequence* spared) {
  for (auto it = sequences_.rbegin(); it != sequences_.rend(); ++it) {
    if (&*it == spared || !it->waited_for.empty()) continue;
    const auto place = std::next(it).base();
    KeptSequence dropped = std::move(*place);
    sequences_.erase(place);
    ++dropped_;
    if (fell_out_) fell_out_(std::move(dropped));
    return true;
  }
  return false;
}

KeptSequence KeptSequences::take(const KeptSequence* sequence) {
  const auto it = std::ranges::find_if(
      sequences_, [&](const KeptSequence& other) { return &other == sequence; });
  KeptSequence taken = std::move(*it);
  sequences_.erase(it);
  return taken;
}

std::vector<KeptSequence> KeptSequences::take_all() {
  std::vector<KeptSequence> all;
  for (KeptSequence& sequence : sequences_) all.push_back(std::move(sequence));
  sequences_.clear();
  return all;
}

size_t KeptSequences::droppable_bytes() const {
  size_t bytes = 0;
  for (const KeptSequence& sequence : sequences_) {
    if (sequence.waited_for.empty()) bytes += sequence.memory.bytes();
  }
  return bytes;
}

void KeptSequences::add_document(const DocumentId& id, KeptSequence sequence) {
  documents_.insert_or_assign(id, std::make_shared<const KeptSequence>(std::move(sequence)));
}

const KeptSequence* KeptSequences::document(const DocumentId& id) const {
  const auto found = documents_.find(id);
  return found == documents_.end() ? nullptr : found->second.get();
}

}  // namespace restkv::server
