#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "restkv/model.h"
#include "restkv/session.h"
#include "restkv/threads.h"
#include "restkv/tokenizer.h"
#include "server/scheduler/request.h"
#include "server/scheduler/status.h"

namespace restkv::server {

struct SchedulerOptions {
  SessionOptions session;  ///< Of requests that name none.
  size_t max_queue = 64;   ///< Requests that may wait.
  /// Answers that are written at the same time; the others wait.
  size_t max_answers = 64;
  size_t max_n = 8;  ///< Answers of one request.
  /// Prompts under way at the same time, each with memory of its own to work in.
  size_t max_prompts = 2;
  /// Share of the time that prompts get while answers are written, 0 to 1, both excluded.
  double prompt_share = 0.75;
  /// Bytes for caches and for prompts on their way, besides the model's weights; 0: 70% of what is
  /// available beside them when the scheduler begins.
  size_t memory_limit = 0;
  /// Sequences that stay after their answers, as long as there is memory; 0: none.
  size_t max_kept = 256;
  /// A folder for sequences that fall out of memory or are there at `shutdown`, and for documents:
  /// a later scheduler of the same model finds them again. Empty: none. With `max_kept` 0 it is for
  /// documents only. If it is missing it is made, for the owner only. It is for one scheduler at a
  /// time. Files that are damaged, foreign or of another model are never used.
  std::string cache_dir;
  /// Bytes of the files in it. The least recently used sequences go first, documents never.
  size_t cache_size = size_t{20} << 30U;
  /// Hears what of the folder could not be used or written, and why; on the engine thread, or in
  /// the constructor. It must not block or throw.
  std::function<void(std::string_view)> error_log;
};

/// Answers many requests with one model: on a thread of its own, which reads prompts step by step
/// and decodes a token for all running answers between the steps.
///
/// Answers are always decoded as `Session::append_together` does, even alone: what a request gets
/// does not depend on who else is served. It may depend on whether an earlier cache was there to
/// begin with (`Request::reuse`).
///
/// All functions may be called from any thread, listeners included, but for `shutdown`, which
/// listeners must not call.
class Scheduler {
 public:
  /// `model` and `tokenizer` must outlive the scheduler. `threads`: who computes; none: the pool of
  /// `set_num_threads`. Throws `Error`: kInvalidArgument (an option that cannot be used, a
  /// `cache_dir` that another scheduler uses), kIo (`cache_dir` cannot be read or written).
  Scheduler(const Model& model, const Tokenizer& tokenizer, const SchedulerOptions& options,
            std::shared_ptr<ThreadPool> threads = nullptr);
  /// `shutdown` without grace.
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  /// Accepts a request, whose listener then hears of it. Refuses with `Busy` if the queue is full,
  /// and with `Error`: kInvalidArgument (what cannot be used, does not fit into the model's
  /// context, or never into memory, with both figures), kInterrupted (shutting down).
  RequestId submit(Request request);
  /// The same for requests that belong together: all of them are accepted or none. They may be more
  /// than the queue takes; then those of others are refused until enough of them have begun.
  std::vector<RequestId> submit(std::vector<Request> requests);
  /// Ends what is left of a request before the next step: its unfinished answers fail with
  /// kInterrupted. Of a request that is over: nothing.
  void cancel(RequestId id);

  /// Reads a text that many requests will begin with. It is in the list at once, ready later, and
  /// stays until it is removed: documents are not dropped to make room. With `cache_dir` a later
  /// scheduler has it again under its name; `closed` then comes when it has been written. No later
  /// document gets the name of a removed one; names are in the order of their documents.
  /// `listener` hears of it as of a request without answers; `failed` then names answer 0. `label`:
  /// text that is given back with the document. Refuses as `submit` does.
  DocumentId add_document(std::vector<int32_t> tokens,
                          const std::optional<SessionOptions>& session = {},
                          std::shared_ptr<Listener> listener = nullptr,
                          const std::string& label = {});
  [[nodiscard]] std::vector<DocumentInfo> documents() const;  ///< In order of their names.
  [[nodiscard]] std::optional<DocumentInfo> document(const DocumentId& id) const;
  /// False: there is none of this name. Requests that have begun with it go on; those that wait
  /// for it fail.
  bool remove_document(const DocumentId& id);

  /// What a document still holds of its text. `hears` is called exactly once: on the engine thread
  /// between two steps, where it must not block, or at once if the scheduler has shut down. It gets
  /// none if the document has not been read, is unknown, or was cut with compact positions, which
  /// say nothing of the text any more. What it throws is ignored.
  void kept(const DocumentId& id, HearsKept hears);
  /// The same of an answer's sequence, while it is written or as long as it stays in memory. A
  /// sequence that a later request has gone on with, or has come to once more, is found by the
  /// number of the later one.
  void kept(RequestId id, size_t answer, HearsKept hears);

  /// Accepts nothing more, lets what was accepted finish for up to `grace`, cancels the rest, and
  /// writes what stays to `cache_dir`, and ends the thread. A second call waits for the first.
  void shutdown(std::chrono::milliseconds grace);

  /// As of the last step.
  [[nodiscard]] SchedulerStatus status() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace restkv::server
