#include "server/scheduler/kept_sequences.h"

#include <algorithm>
#include <utility>

namespace restkv::server {
namespace {

bool begins_with(std::span<const int32_t> tokens, std::span<const int32_t> beginning) {
  return beginning.size() <= tokens.size() &&
         std::ranges::equal(tokens.first(beginning.size()), beginning);
}

}  // namespace

void KeptSequences::keep(KeptSequence sequence) {
  if (most_ == 0) return;
  std::erase_if(sequences_, [&](const KeptSequence& other) {
    return other.key == sequence.key && other.tokens == sequence.tokens;
  });
  while (sequences_.size() >= most_) drop_oldest();
  sequences_.push_front(std::move(sequence));
}

KeptSequence* KeptSequences::find(std::span<const int32_t> tokens, const std::string& key) {
  auto longest = sequences_.end();
  for (auto it = sequences_.begin(); it != sequences_.end(); ++it) {
    if (it->key != key || !begins_with(tokens, it->tokens)) continue;
    if (longest == sequences_.end() || it->tokens.size() > longest->tokens.size()) longest = it;
  }
  if (longest == sequences_.end()) return nullptr;
  sequences_.splice(sequences_.begin(), sequences_, longest);
  return &sequences_.front();
}

bool KeptSequences::drop_oldest(const KeptSequence* spared) {
  for (auto it = sequences_.rbegin(); it != sequences_.rend(); ++it) {
    if (&*it == spared) continue;
    sequences_.erase(std::next(it).base());
    ++dropped_;
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

size_t KeptSequences::droppable_bytes() const {
  size_t bytes = 0;
  for (const KeptSequence& sequence : sequences_) bytes += sequence.memory.bytes();
  return bytes;
}

void KeptSequences::add_document(const DocumentId& id, KeptSequence sequence) {
  documents_.insert_or_assign(id, std::move(sequence));
}

const KeptSequence* KeptSequences::document(const DocumentId& id) const {
  const auto found = documents_.find(id);
  return found == documents_.end() ? nullptr : &found->second;
}

}  // namespace restkv::server
