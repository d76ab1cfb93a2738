#pragma once

#include <pthread.h>

#include <csignal>

// What is needed of the OpenMP runtime under oneDNN (not every compiler has its header).
extern "C" void omp_set_num_threads(int threads);
extern "C" int omp_get_max_threads();

namespace restkv {

/// While it lives, the calling thread can compute a part of a product by oneDNN: alone, as one of
/// our own threads, instead of with OpenMP's, which would spin against them; and with signals held
/// back. oneDNN 2.6 uses the stack pointer as a general register in some of its generated products;
/// a signal handler that ran then would write its frame over the heap.
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
