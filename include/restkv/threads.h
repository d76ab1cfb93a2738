#pragma once

#include <memory>

/// Threads of computations. Results never depend on their number.
namespace restkv {

/// Number of processors that this process may use: those of its affinity mask (`taskset`, batch
/// systems), limited by the quota of its control groups (containers), rounded up. At least 1.
/// `root` is the folder of /proc and /sys.
int usable_processors(const char* root = "");

class ThreadTeams;

/// A pool of threads. They are started by the first computation that needs them and sleep between
/// computations.
///
/// Several threads may compute with one pool at the same time. Each gets separate helper threads,
/// so none waits for another; the operating system schedules them all.
class ThreadPool {
 public:
  /// `threads` includes the calling thread; 0: `usable_processors()`. Throws `Error`
  /// (kInvalidArgument) if negative.
  explicit ThreadPool(int threads = 0);
  /// No computation may use the pool any more.
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int threads() const;

 private:
  friend class ThreadTeams;
  std::unique_ptr<ThreadTeams> teams_;
};

/// The thread that creates it computes with `pool` while it exists.
class UseThreads {
 public:
  explicit UseThreads(ThreadPool& pool);
  ~UseThreads();
  UseThreads(const UseThreads&) = delete;
  UseThreads& operator=(const UseThreads&) = delete;

 private:
  ThreadPool* before_;
};

/// Sets the number of threads of the default pool, at least 1. The default is
/// `usable_processors()`. Must not be called while a computation uses the default pool.
void set_num_threads(int threads);
/// Number of threads that the calling thread computes with.
int num_threads();

}  // namespace restkv
