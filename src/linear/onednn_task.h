#pragma once

#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <cstddef>

#include "base/threads.h"

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

/// Shares a product y [rows, columns] out: calls `body(row, rows, column, columns)` for every tile
/// of y, in parallel. Tiles do not depend on the number of threads, so neither does the result;
/// they are small enough that a matrix of a few hundred columns leaves no thread without work.
template <class Body>
void for_each_tile(size_t rows, size_t columns, const Body& body) {
  constexpr size_t kRows = 256;
  constexpr size_t kColumns = 192;
  const size_t row_tiles = (rows + kRows - 1) / kRows;
  parallel_for((columns + kColumns - 1) / kColumns * row_tiles, [&](size_t task, size_t) {
    const size_t column = task / row_tiles * kColumns;
    const size_t row = task % row_tiles * kRows;
    body(row, std::min(kRows, rows - row), column, std::min(kColumns, columns - column));
  });
}

}  // namespace restkv
