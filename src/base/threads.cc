#include "base/threads.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#ifdef RESTKV_OPENMP
#include <omp.h>
#endif

namespace restkv {
namespace {

std::atomic<int> g_threads{0};

/// Collects the first exception of a parallel region.
class FirstException {
 public:
  void capture() {
    const std::scoped_lock lock(mutex_);
    if (!first_) first_ = std::current_exception();
    failed_.store(true, std::memory_order_relaxed);
  }
  [[nodiscard]] bool failed() const { return failed_.load(std::memory_order_relaxed); }
  void rethrow() const {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr first_;
  std::atomic<bool> failed_{false};
};

}  // namespace

void set_num_threads(int threads) {
  g_threads = std::max(1, threads);
#ifdef RESTKV_OPENMP
  omp_set_num_threads(g_threads);
#endif
}

int num_threads() {
  if (g_threads == 0) {
    g_threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  return g_threads;
}

void parallel_for(size_t tasks, FunctionRef<void(size_t, size_t)> body) {
  const auto threads = std::min<size_t>(tasks, static_cast<size_t>(num_threads()));
  if (threads <= 1) {
    for (size_t task = 0; task < tasks; ++task) body(task, 0);
    return;
  }
  FirstException error;
  std::atomic<size_t> next{0};
  const auto work = [&](size_t thread) {
    try {
      for (size_t task; !error.failed() && (task = next.fetch_add(1)) < tasks;) body(task, thread);
    } catch (...) {
      error.capture();
    }
  };
#ifdef RESTKV_OPENMP
#pragma omp parallel num_threads(static_cast <int>(threads))
  work(static_cast<size_t>(omp_get_thread_num()));
#else
  std::vector<std::thread> pool;
  for (size_t t = 1; t < threads; ++t) pool.emplace_back(work, t);
  work(0);
  for (auto& t : pool) t.join();
#endif
  error.rethrow();
}

}  // namespace restkv
