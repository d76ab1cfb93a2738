#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "generate/batch.h"
#include "restkv/engine.h"
#include "restkv/model.h"
#include "restkv/tokenizer.h"
#include "server/scheduler/disk_cache.h"
#include "server/scheduler/footprint.h"
#include "server/scheduler/inbox.h"
#include "server/scheduler/job.h"
#include "server/scheduler/kept_sequences.h"
#include "server/scheduler/memory_account.h"
#include "server/scheduler/scheduler.h"
#include "server/scheduler/time_share.h"

namespace restkv::server {

/// Tells who asked.
void tell_kept(const KeptQuestion& question, std::optional<KeptTokens> kept);

/// What runs on the engine thread: it begins requests that wait, and does one step after another of
/// a prompt or of all answers. Only the inbox is shared with others.
class Worker {
 public:
  Worker(const Model& model, const Tokenizer& tokenizer, const SchedulerOptions& options,
         size_t memory_limit, std::shared_ptr<ThreadPool> threads, Inbox& inbox);

  /// Until the inbox says stop and all is done or cancelled.
  void run();

 private:
  // What comes from the inbox:
  /// Waits if there is nothing to do. False: it is all over.
  bool take_in();
  void arrive(std::unique_ptr<Job> job);
  void remove_document(const DocumentId& id);
  void end_cancelled();
  void cancel_all(const Error& why);
  [[nodiscard]] std::optional<KeptTokens> find_kept(const KeptQuestion& question) const;
  /// From now on nobody looks at the inbox.
  void leave_inbox();

  // From waiting to reading:
  void begin_waiting();
  enum class Begun { kYes, kNotNow, kLoading };
  /// `kLoading`: it will be considered again when a sequence has come from the disk. Throws what is
  /// wrong with the request.
  Begun begin(Job& job);
  /// Drops kept sequences until so much is free. False: that would not do, and nothing is dropped,
  /// or it will be free when dropped sequences have been written to disk. `source`, one of them or
  /// null, goes last; true in `takes_source` if it has to.
  bool make_room(size_t bytes, const KeptSequence* source, bool& takes_source);
  bool make_room(size_t bytes);
  /// Whether a document that the request needs is still being read. Throws if there is none.
  [[nodiscard]] bool waits_for_document(const Job& job) const;
  [[nodiscard]] double order(const Job& job) const;
  [[nodiscard]] Job* first_reading() const;
  [[nodiscard]] Job* first_waiting();
  [[nodiscard]] size_t answers_promised() const;

  // Steps:
  void step();
  void step_prompt(Job& job);
  void prompt_complete(Job& job);
  void step_answers();
  [[nodiscard]] Matrix<const float> decode(std::span<const int32_t> tokens,
                                           std::span<const size_t> members);
  void answer_ended(size_t member, const Batch::Cost& cost);

  // Ends:
  void keep(Answer& answer);
  /// What is left of the job fails.
  void end(Job& job, const Error& why);
  void close_ended();
  /// The last word to the listener. `job` is gone then.
  void close(Job& job);

  // The disk:
  void open_disk();
  /// `hears` is told the end of its request when the document has been written.
  void save_document(const DocumentId& id, const std::shared_ptr<Listener>& hears);
  void load_document(const DocumentInfo& info);
  void document_loaded(const DocumentId& id, std::optional<KeptSequence> sequence);
  /// What `begin` gives; none: the disk has nothing better than `longer_than` tokens.
  std::optional<Begun> load_sequence(Job& job, size_t longer_than);
  void sequence_loaded(RequestId id, std::optional<KeptSequence> sequence);
  void save_all();
  [[nodiscard]] bool disk_is_busy() const { return disk_ && disk_->busy(); }
  [[nodiscard]] size_t bytes_in_writing() const { return disk_ ? disk_->bytes_in_writing() : 0; }
  /// Nothing can be done before the disk is done.
  [[nodiscard]] bool waits_for_disk() const { return active_.empty() && disk_is_busy(); }

  void change_document(const Job& job, DocumentInfo::State state);
  /// For others to see.
  void publish(bool now);

  const Model& model_;
  const Tokenizer& tokenizer_;
  const SchedulerOptions& options_;
  Inbox& inbox_;
  Engine engine_;
  MemoryAccount memory_;
  MemoryAccount::Share engine_memory_;
  KeptSequences kept_;
  std::optional<DiskCache> disk_;
  std::optional<Clock::time_point> stop_at_;
  std::vector<std::unique_ptr<Job>> waiting_;
  std::vector<std::unique_ptr<Job>> active_;
  std::map<size_t, std::unique_ptr<Answer>> answers_;  ///< By their numbers in the batch.
  size_t next_member_ = 0;
  Batch batch_;
  TimeShare share_;
  SchedulerStatus totals_;
  double seconds_per_token_ = 1e-3;  ///< Of prompts, measured.
  const Clock::time_point began_ = Clock::now();
  Clock::time_point last_begin_ = began_;
  Clock::time_point published_ = began_;
};

}  // namespace restkv::server
