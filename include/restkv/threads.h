#pragma once

#include <memory>

/// Threads that compute. Results never depend on their number.
namespace restkv {

/// Processors that this process may use: those of its affinity mask (`taskset`, batch systems), but
/// no more than its control groups have a quota for (containers), rounded up. At least 1. `root` is
/// where /proc and /sys are.
int usable_processors(const char* root = "");

class ThreadTeams;

/// A number of threads to compute with. They are started by the first computation that needs them
/// and sleep between computations.
///
/// Several threads may compute with one pool at the same time: each gets helpers of its own, so
/// none waits for another, and all share the processors as the system sees fit.
class ThreadPool {
 public:
  /// `threads` count the one that computes; 0: `usable_processors()`. Throws `Error`
  /// (kInvalidArgument) if negative.
  explicit ThreadPool(int threads = 0);
  /// Nobody computes with it any more.
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int threads() const;

 private:
  friend class ThreadTeams;
  std::unique_ptr<ThreadTeams> teams_;
};

/// While it lives, the thread that made it computes with `pool`.
class UseThreads {
 public:
  explicit UseThreads(ThreadPool& pool);
  ~UseThreads();
  UseThreads(const UseThreads&) = delete;
  UseThreads& operator=(const UseThreads&) = delete;

 private:
  ThreadPool* before_;
};

/// Sets the threads of the pool that everybody computes with who names no other; at least 1. Unless
/// set, `usable_processors()`. Must not be called while somebody computes with it.
void set_num_threads(int threads);
/// Threads that the calling thread computes with.
int num_threads();

}  // namespace restkv
