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

/// Number of pauses before a waiting thread yields its processor: tens of microseconds. That is
/// longer than the gaps between parallel regions of decoding and far shorter than a time slice.
constexpr int kSpins = 2000;

/// Threads that help one caller of `run` at a time with its tasks.
///
/// The caller takes tasks itself until none is left and then waits only for tasks that a helper has
/// begun. On a shared machine a helper without a processor costs nothing, whereas a barrier over
/// all threads would cost a time slice.
class Team {
 public:
  explicit Team(size_t helpers) : ranges_(helpers + 1) {
    try {
      for (size_t i = 0; i < helpers; ++i) threads_.emplace_back([this, i] { help(i + 1); });
    } catch (const std::system_error& e) {
      const size_t started = threads_.size();
      stop();
      throw Error(
          ErrorCode::kUnsupported,
          fmt::format("cannot start more than {} of {} threads: {}; use fewer, or raise the "
                      "limits on processes and memory (ulimit -u, ulimit -v)",
                      started + 1, helpers + 1, e.code().message()));
    }
  }
  ~Team() { stop(); }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  [[nodiscard]] size_t threads() const { return threads_.size() + 1; }

  void run(size_t tasks, const FunctionRef<void(size_t, size_t)>& body, Sharing sharing) {
    // No helper reads these while open_ is false and active_ is 0.
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
  /// Remaining tasks [next, end), on a separate pair of cache lines.
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

  // A helper increments active_ before it reads open_; `run` clears open_ before it reads active_
  // (both sequentially consistent). So either the helper sees that `run` has ended, or `run` sees
  // the helper.
  std::atomic<bool> open_{false};
  std::atomic<uint32_t> active_{0};
  std::atomic<uint32_t> epoch_{0};
  std::atomic<bool> stopping_{false};

  const FunctionRef<void(size_t, size_t)>* body_ = nullptr;
  std::vector<Range> ranges_;
  size_t runs_ = 1;  ///< Number of ranges in use.
  std::atomic<bool> failed_{false};
  std::mutex error_mutex_;
  std::exception_ptr error_;

  std::vector<std::thread> threads_;
};

thread_local bool t_in_parallel = false;

void Team::help(size_t thread) {
  t_in_parallel = true;  // nested calls run on the thread of their task
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

/// Maximum of callers with helpers at the same time. With this many, every processor is busy
/// without further threads.
constexpr size_t kMostTeams = 16;

}  // namespace

/// See `ThreadPool`.
class ThreadTeams {
 public:
  explicit ThreadTeams(int count) : threads(count) { idle_.reserve(kMostTeams); }

  /// The teams of the calling thread's pool.
  static ThreadTeams& current();

  /// An idle team; null if there are too many teams or no threads for another one.
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

  const int threads;  ///< The caller included.

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Team>> idle_;
  size_t count_ = 0;  ///< Number of teams, idle or not.
};

namespace {

/// Never destroyed, because a program may end while its threads compute.
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
  teams_ = std::make_unique<ThreadTeams>(threads == 0 ? usable_processors() : threads);
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
  // A nested call runs on the calling thread, because every processor is busy already.
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
