#pragma once

#include <pthread.h>

#include <csignal>

// Functions of the OpenMP runtime under oneDNN; not every compiler has its header.
extern "C" void omp_set_num_threads(int threads);
extern "C" int omp_get_max_threads();

namespace restkv {

/// Prepares the calling thread for a product by oneDNN while it exists. OpenMP is limited to this
/// thread, because its threads would compete with those of the pool. Signals are blocked:
/// oneDNN 2.6 uses the stack pointer as a general register in some generated products, and a signal
/// handler would write its frame over the heap.
class OneDnnTask {
 public:
  OneDnnTask() : threads_(omp_get_max_threads()) {
    omp_set_num_threads(1);
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &signals_);
  }
  ~OneDnnTask() {
    pthread_sigmask(SIG_SETMASK, &signals_, nullptr);
    omp_set_num_threads(threads_);
  }
  OneDnnTask(const OneDnnTask&) = delete;
  OneDnnTask& operator=(const OneDnnTask&) = delete;

 private:
  int threads_;
  sigset_t signals_{};
};

}  // namespace restkv
