#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "server/scheduler/job.h"
#include "server/scheduler/status.h"

namespace restkv::server {

/// Somebody asks what a sequence still knows: a document's, or that of an answer.
struct KeptQuestion {
  DocumentId document;  ///< Empty: an answer is meant.
  RequestId request = 0;
  size_t answer = 0;
  HearsKept hears;
};

/// What the engine thread shares with all others. Everything in it needs `mutex`.
struct Inbox {
  std::mutex mutex;
  std::condition_variable changed;

  // To the engine thread:
  std::deque<std::unique_ptr<Job>> submitted;
  std::vector<RequestId> cancelled;
  std::vector<DocumentId> removed;
  std::vector<KeptQuestion> questions;
  std::optional<Clock::time_point> stop_at;  ///< What is not done then is cancelled.

  // From it:
  bool ended = false;            ///< It looks at nothing any more.
  size_t waiting = 0;            ///< Requests that were accepted and have not begun.
  double seconds_per_begin = 1;  ///< From one begin of a waiting request to the next.
  std::map<DocumentId, DocumentInfo> documents;
  SchedulerStatus status;
  uint64_t accepted = 0, refused = 0;
};

}  // namespace restkv::server
