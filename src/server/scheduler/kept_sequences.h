#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "restkv/session.h"
#include "server/scheduler/memory_account.h"
#include "server/scheduler/status.h"

namespace restkv::server {

/// By the clock that files are dated with.
int64_t nanoseconds_since_1970();

/// A sequence in memory that nobody works on.
struct KeptSequence {
  std::vector<int32_t> tokens;  ///< All that it has read, in order.
  std::string key;              ///< `session_key` of its options.
  Session session;
  MemoryAccount::Share memory;
  SlotInfo info;
  int64_t used = 0;  ///< Last: `nanoseconds_since_1970`.
  /// Requests that it was read from disk for and that have not begun: it may not go before.
  std::vector<RequestId> waited_for = {};
  std::string label = {};  ///< Of a document: what its owner wants to know of it again.
};

/// Sequences that stay after their work is done: those that may go, the least recently used first,
/// and documents, which stay until they are removed.
///
/// A sequence that has to go leaves memory in `drop_oldest` and nowhere else.
class KeptSequences {
 public:
  /// At most `most` that may go. `fell_out` gets those that went.
  KeptSequences(size_t most, std::function<void(KeptSequence)> fell_out)
      : most_(most), fell_out_(std::move(fell_out)) {}

  /// Keeps one as the most recently used, in place of one that knows the same; perhaps another has
  /// to go.
  void keep(KeptSequence sequence);
  struct Found {
    KeptSequence* sequence = nullptr;  ///< Null: none.
    size_t tokens = 0;                 ///< That need not be read.
    /// It has read something else after these: they are to be had as a `Session::fork_beginning`.
    [[nodiscard]] bool is_part() const {
      return sequence != nullptr && tokens < sequence->tokens.size();
    }
  };
  /// The one that saves most of reading `tokens` with these options: it has read their beginning,
  /// or all of them, or at least `kLeastCommon` tokens of their beginning before something else.
  /// Counts as a use.
  [[nodiscard]] Found find(std::span<const int32_t> tokens, const std::string& key);
  /// So many are worth a copy. What all chats with a template begin with has fewer: answers would
  /// otherwise depend, by rounding, on whether anybody was there before.
  static constexpr size_t kLeastCommon = 64;
  /// A request does not wait for one any more.
  void let_go(RequestId request);
  /// Nobody does. False: nobody did.
  bool let_all_go();
  /// False: there is none to drop but `spared` and those that are waited for.
  bool drop_oldest(const KeptSequence* spared = nullptr);
  /// Takes one out that `find` has given.
  [[nodiscard]] KeptSequence take(const KeptSequence* sequence);
  /// Takes out all that may go, the most recently used first.
  [[nodiscard]] std::vector<KeptSequence> take_all();
  /// Bytes of those that may go.
  [[nodiscard]] size_t droppable_bytes() const;
  [[nodiscard]] const std::list<KeptSequence>& all() const { return sequences_; }
  [[nodiscard]] size_t dropped() const { return dropped_; }

  /// Documents never change, and may be written to disk meanwhile.
  using Documents = std::map<DocumentId, std::shared_ptr<const KeptSequence>>;
  void add_document(const DocumentId& id, KeptSequence sequence);
  [[nodiscard]] const KeptSequence* document(const DocumentId& id) const;
  void remove_document(const DocumentId& id) { documents_.erase(id); }
  [[nodiscard]] const Documents& documents() const { return documents_; }

 private:
  size_t most_;
  std::function<void(KeptSequence)> fell_out_;
  std::list<KeptSequence> sequences_;  ///< The most recently used first.
  Documents documents_;
  size_t dropped_ = 0;
};

}  // namespace restkv::server
