#include "base/threads.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "restkv/error.h"

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace restkv {
namespace {

void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

/// Pauses before a waiting thread gives up its processor: some tens of microseconds, longer than
/// the gaps between the parallel regions of a decoding step, far shorter than a time slice.
constexpr int kSpins = 2000;

/// Threads that help one caller of `run` at a time with its tasks.
///
/// The caller never depends on them: it takes tasks itself until none is left and then waits only
/// for tasks that a helper has begun. On a machine shared with other work a helper that does not
/// get a processor is simply not missed, where a barrier over all threads would cost a time slice.
class Team {
 public:
  explicit Team(size_t helpers) : ranges_(helpers + 1) {
    try {
      for (size_t i = 0; i < helpers; ++i) threads_.emplace_back([this, i] { help(i + 1); });
    } catch (const std::system_error& e) {
      const size_t started = threads_.size();
      stop();
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("cannot start more than {} of {} threads: {}; use fewer (-t 1), or "
                              "raise the limits on processes and memory (ulimit -u, ulimit -v)",
                              started + 1, helpers + 1, e.code().message()));
    }
  }
  ~Team() { stop(); }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  [[nodiscard]] size_t threads() const { return threads_.size() + 1; }

  void run(size_t tasks, const FunctionRef<void(size_t, size_t)>& body, Sharing sharing) {
    // No helper looks at these while open_ is false and active_ is 0.
    body_ = &body;
    runs_ = sharing == Sharing::kRuns ? ranges_.size() : 1;
    for (size_t i = 0; i < runs_; ++i) {
      ranges_[i].next = tasks * i / runs_;
      ranges_[i].end = tasks * (i + 1) / runs_;
    }
    failed_ = false;
    error_ = nullptr;
    open_ = true;
    wake_all();
    work(0);
    open_ = false;
    for (int spins = 0; active_ != 0; ++spins) {
      if (spins < kSpins) {
        pause_briefly();
      } else {
        std::this_thread::yield();
      }
    }
    if (error_) std::rethrow_exception(error_);
  }

 private:
  /// Tasks [next, end) are left; on a pair of cache lines of their own.
  struct alignas(128) Range {
    std::atomic<size_t> next{0};
    size_t end = 0;
  };

  void stop() {
    stopping_ = true;
    wake_all();
    for (std::thread& t : threads_) t.join();
    threads_.clear();
  }

  void wake_all() {
    epoch_.fetch_add(1);
    epoch_.notify_all();
  }

  void work(size_t thread) {
    try {
      for (size_t i = 0; i < runs_; ++i) {
        Range& range = ranges_[(thread + i) % runs_];
        for (size_t task; !failed_ && (task = range.next.fetch_add(1)) < range.end;) {
          (*body_)(task, thread);
        }
      }
    } catch (...) {
      const std::scoped_lock lock(error_mutex_);
      if (!error_) error_ = std::current_exception();
      failed_ = true;
    }
  }

  void help(size_t thread);

  // A helper raises active_ before it looks at open_, `run` lowers open_ before it looks at
  // active_ (both sequentially consistent): either the helper sees that it came too late, or `run`
  // sees the helper.
  std::atomic<bool> open_{false};
  std::atomic<uint32_t> active_{0};
  std::atomic<uint32_t> epoch_{0};
  std::atomic<bool> stopping_{false};

  const FunctionRef<void(size_t, size_t)>* body_ = nullptr;
  std::vector<Range> ranges_;
  size_t runs_ = 1;  ///< How many of the ranges are in use.
  std::atomic<bool> failed_{false};
  std::mutex error_mutex_;
  std::exception_ptr error_;

  std::vector<std::thread> threads_;
};

thread_local bool t_in_parallel = false;

void Team::help(size_t thread) {
  t_in_parallel = true;  // what a task starts in turn runs on its own thread
  uint32_t seen = 0;
  while (!stopping_) {
    uint32_t now = epoch_;
    for (int spins = 0; now == seen && spins < kSpins; ++spins) {
      pause_briefly();
      now = epoch_;
    }
    if (now == seen) {
      epoch_.wait(seen);
      continue;
    }
    seen = now;
    ++active_;
    if (open_) work(thread);
    --active_;
  }
}

/// Callers that have helpers at the same time. With so many, every processor has work without
/// further threads.
constexpr size_t kMostTeams = 16;

}  // namespace

/// See `ThreadPool`.
class ThreadTeams {
 public:
  explicit ThreadTeams(int count) : threads(count) { idle_.reserve(kMostTeams); }

  /// Those that the calling thread computes with.
  static ThreadTeams& current();

  /// A team that nobody uses; none if there are too many, or no threads for one more.
  std::unique_ptr<Team> take() {
    const std::scoped_lock lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<Team> team = std::move(idle_.back());
      idle_.pop_back();
      return team;
    }
    if (count_ == kMostTeams) return nullptr;
    try {
      auto team = std::make_unique<Team>(static_cast<size_t>(threads) - 1);
      ++count_;
      return team;
    } catch (const Error&) {
      if (count_ == 0) throw;
      return nullptr;
    }
  }
  void give_back(std::unique_ptr<Team> team) {
    const std::scoped_lock lock(mutex_);
    idle_.push_back(std::move(team));
  }

  const int threads;  ///< With the caller.

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Team>> idle_;
  size_t count_ = 0;  ///< Idle or not.
};

namespace {

/// Asking the system takes microseconds, as long as a small product.
int processors() {
  static const int count = usable_processors();
  return count;
}

/// Never destroyed: a program may end while its threads compute.
std::unique_ptr<ThreadPool>& default_pool() {
  static auto* const pool = new std::unique_ptr<ThreadPool>(new ThreadPool());
  return *pool;
}

thread_local ThreadPool* t_pool = nullptr;  // null: the default

}  // namespace

ThreadTeams& ThreadTeams::current() {
  return *(t_pool != nullptr ? *t_pool : *default_pool()).teams_;
}

ThreadPool::ThreadPool(int threads) {
  if (threads < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} threads cannot compute; name 1 or more, or 0 for one per processor",
                            threads));
  }
  teams_ = std::make_unique<ThreadTeams>(threads == 0 ? processors() : threads);
}
ThreadPool::~ThreadPool() = default;
int ThreadPool::threads() const { return teams_->threads; }

UseThreads::UseThreads(ThreadPool& pool) : before_(t_pool) { t_pool = &pool; }
UseThreads::~UseThreads() { t_pool = before_; }

void set_num_threads(int threads) {
  default_pool() = std::make_unique<ThreadPool>(std::max(1, threads));
}

int num_threads() { return ThreadTeams::current().threads; }

void parallel_for(size_t tasks, FunctionRef<void(size_t, size_t)> body, Sharing sharing) {
  // A nested call runs on the calling thread: every processor is busy already.
  std::unique_ptr<Team> team;
  ThreadTeams& teams = ThreadTeams::current();
  if (tasks > 1 && teams.threads > 1 && !t_in_parallel) team = teams.take();
  if (team == nullptr) {
    for (size_t task = 0; task < tasks; ++task) body(task, 0);
    return;
  }
  t_in_parallel = true;
  struct Reset {
    ~Reset() {
      t_in_parallel = false;
      teams.give_back(std::move(team));
    }
    ThreadTeams& teams;
    std::unique_ptr<Team> team;
  } reset{teams, std::move(team)};
  reset.team->run(tasks, body, sharing);
}

}  // namespace restkv
