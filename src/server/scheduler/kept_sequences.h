#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "restkv/session.h"
#include "server/scheduler/memory_account.h"
#include "server/scheduler/status.h"

namespace restkv::server {

/// A sequence in memory that nobody works on.
struct KeptSequence {
  std::vector<int32_t> tokens;  ///< All that it has read, in order.
  std::string key;              ///< `session_key` of its options.
  Session session;
  MemoryAccount::Share memory;
  SlotInfo info;
};

/// Sequences that stay after their work is done: those that may go, the least recently used first,
/// and documents, which stay until they are removed.
///
/// A sequence leaves memory in `drop_oldest` and nowhere else: there it would be written to disk.
class KeptSequences {
 public:
  /// At most so many that may go.
  explicit KeptSequences(size_t most) : most_(most) {}

  /// Keeps one as the most recently used, in place of one that knows the same; perhaps another has
  /// to go.
  void keep(KeptSequence sequence);
  /// The longest one that has read the beginning of `tokens`, or all of them, with these options;
  /// null: none. Counts as a use.
  [[nodiscard]] KeptSequence* find(std::span<const int32_t> tokens, const std::string& key);
  /// False: there is none to drop but `spared`.
  bool drop_oldest(const KeptSequence* spared = nullptr);
  /// Takes one out that `find` has given.
  [[nodiscard]] KeptSequence take(const KeptSequence* sequence);
  /// Bytes of those that may go.
  [[nodiscard]] size_t droppable_bytes() const;
  [[nodiscard]] const std::list<KeptSequence>& all() const { return sequences_; }
  [[nodiscard]] size_t dropped() const { return dropped_; }

  void add_document(const DocumentId& id, KeptSequence sequence);
  [[nodiscard]] const KeptSequence* document(const DocumentId& id) const;
  void remove_document(const DocumentId& id) { documents_.erase(id); }
  [[nodiscard]] const std::map<DocumentId, KeptSequence>& documents() const { return documents_; }

 private:
  size_t most_;
  std::list<KeptSequence> sequences_;  ///< The most recently used first.
  std::map<DocumentId, KeptSequence> documents_;
  size_t dropped_ = 0;
};

}  // namespace restkv::server
