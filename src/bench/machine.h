#pragma once

#include <cstddef>

#include "base/json.h"
#include "base/stopwatch.h"
#include "restkv/aligned.h"

/// Limits of this machine's speed, for comparison with measurements.
namespace restkv::bench {

/// Uniform in [-1, 1]; the same numbers in every call.
AlignedVector<float> random_floats(size_t count);

template <class F>
double seconds(F&& f) {
  const Stopwatch watch;
  f();
  return watch.seconds();
}

template <class F>
double best_of(int runs, F&& f) {
  double best = seconds(f);
  for (int i = 1; i < runs; ++i) {
    const double t = seconds(f);
    if (t < best) best = t;
  }
  return best;
}

/// oneDNN's f32 matrix product of 1024^3 on `num_threads()` threads, in FLOP/s.
double gemm_rate();

/// Bytes per second when all threads sum a 512 MB buffer.
double read_bandwidth();

/// Both of them.
struct Limits {
  double sgemm_flops_per_second = 0;
  double read_bytes_per_second = 0;
};
Json to_json(const Limits& limits);
Limits measure_limits();

}  // namespace restkv::bench
