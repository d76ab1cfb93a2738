#include "base/big_stack.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <system_error>

#include "restkv/error.h"

namespace restkv {
namespace {

struct Job {
  FunctionRef<void()> work;
  std::exception_ptr error = nullptr;
};

void* run(void* argument) {
  Job& job = *static_cast<Job*>(argument);
  try {
    job.work();
  } catch (...) {
    job.error = std::current_exception();
  }
  return nullptr;
}

/// Address space for a stack, above an inaccessible guard page.
class Stack {
 public:
  explicit Stack(size_t bytes) {
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    bytes_ = (bytes + page - 1) / page * page + page;
    base_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (base_ == MAP_FAILED) fail(bytes_, errno);
    ::mprotect(base_, page, PROT_NONE);
    ::madvise(base_, bytes_, MADV_NOHUGEPAGE);  // most calls touch a few pages only
  }
  ~Stack() { ::munmap(base_, bytes_); }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  void run(Job& job) const {
    pthread_attr_t attributes{};
    pthread_attr_init(&attributes);
    int error = pthread_attr_setstack(&attributes, base_, bytes_);
    pthread_t thread{};
    if (error == 0) error = pthread_create(&thread, &attributes, restkv::run, &job);
    pthread_attr_destroy(&attributes);
    if (error != 0) fail(bytes_, error);
    pthread_join(thread, nullptr);
  }

 private:
  [[noreturn]] static void fail(size_t bytes, int error) {
    throw Error(ErrorCode::kInput,
                fmt::format("no thread with a stack of {} MiB is to be had: {}; break up long "
                            "lines, or raise the limit (ulimit -v, ulimit -u)",
                            bytes >> 20U, std::generic_category().message(error)));
  }

  void* base_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace

void run_on_big_stack(size_t bytes, FunctionRef<void()> work) {
  Job job{work};
  Stack(bytes).run(job);
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace restkv
