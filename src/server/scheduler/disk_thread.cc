#include "server/scheduler/disk_thread.h"

#include <utility>

namespace restkv::server {

DiskThread::DiskThread(std::function<void()> wake)
    : wake_(std::move(wake)), thread_([this] { run(); }) {}

DiskThread::~DiskThread() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void DiskThread::post(std::function<void()> work, std::function<void()> then) {
  ++pending_;
  {
    const std::scoped_lock lock(mutex_);
    posted_.push_back({std::move(work), std::move(then)});
  }
  changed_.notify_all();
}

void DiskThread::run_done() {
  std::deque<std::function<void()>> done;
  {
    const std::scoped_lock lock(mutex_);
    done.swap(done_);
  }
  for (const std::function<void()>& then : done) {
    --pending_;
    then();
  }
}

bool DiskThread::has_done() const {
  const std::scoped_lock lock(mutex_);
  return !done_.empty();
}

void DiskThread::finish() {
  while (pending_ > 0) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return !done_.empty(); });
    }
    run_done();
  }
}

void DiskThread::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || !posted_.empty(); });
    if (posted_.empty()) return;
    Task task = std::move(posted_.front());
    posted_.pop_front();
    lock.unlock();
    task.work();
    // What it held may go only where `then` runs: see `MemoryAccount`.
    task.work = nullptr;
    lock.lock();
    done_.push_back(std::move(task.then));
    lock.unlock();
    changed_.notify_all();
    wake_();
    lock.lock();
  }
}

}  // namespace restkv::server
