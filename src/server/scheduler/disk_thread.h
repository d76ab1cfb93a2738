#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace restkv::server {

/// Does slow work in order on a thread of its own, for another thread that must not wait.
class DiskThread {
 public:
  /// `wake`: called there whenever something is done.
  explicit DiskThread(std::function<void()> wake);
  /// Does all that was posted; what should follow is dropped.
  ~DiskThread();
  DiskThread(const DiskThread&) = delete;
  DiskThread& operator=(const DiskThread&) = delete;

  /// `work` happens there, later `then` in `run_done`. Neither may throw.
  void post(std::function<void()> work, std::function<void()> then);
  /// What follows work that is done. Only from the thread that posts.
  void run_done();
  /// Whether `run_done` has something to do. From any thread.
  [[nodiscard]] bool has_done() const;
  /// Waits for all that was posted, and runs what follows.
  void finish();
  /// Posted, and nothing has followed yet. Only from the thread that posts.
  [[nodiscard]] size_t pending() const { return pending_; }

 private:
  struct Task {
    std::function<void()> work, then;
  };
  void run();

  std::function<void()> wake_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> posted_;                 // needs the mutex
  std::deque<std::function<void()>> done_;  // the same
  bool stop_ = false;                       // the same
  size_t pending_ = 0;
  std::thread thread_;
};

}  // namespace restkv::server
