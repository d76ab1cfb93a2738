// What sums over processes take: restkv's, in the order of ranks, beside MPI_Allreduce.
// mpirun -n 2 build/release/benchmarks/cluster_bench
#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
#include <vector>

#include "base/stopwatch.h"
#include "cluster/cluster.h"

namespace restkv {
namespace {

/// Median seconds of `sum`, which all processes call together.
template <class Sum>
double median_seconds(const Sum& sum) {
  constexpr size_t kRuns = 101;
  std::vector<double> seconds;
  for (size_t i = 0; i < kRuns; ++i) {
    MPI_Barrier(MPI_COMM_WORLD);
    const Stopwatch watch;
    sum();
    seconds.push_back(watch.seconds());
  }
  std::ranges::nth_element(seconds, seconds.begin() + kRuns / 2);
  return seconds[kRuns / 2];
}

int run() {
  Communicator& all = cluster();
  if (all.size() == 1) {
    fmt::print("start it by mpirun, as 2 processes or more\n");
    return 2;
  }
  const bool speaks = all.rank() == 0;
  if (speaks) fmt::print("{:>6} {:>6} {:>14} {:>14}\n", "rows", "C", "in order us", "Allreduce us");
  for (const size_t width : {576, 2048, 4096, 8192}) {
    for (const size_t rows : {1, 8, 512}) {
      std::vector<float> x(rows * width, 0.0F);
      const double ours = median_seconds([&] { all.all_reduce({x.data(), rows, width}); });
      const double theirs = median_seconds([&] {
        MPI_Allreduce(MPI_IN_PLACE, x.data(), static_cast<int>(x.size()), MPI_FLOAT, MPI_SUM,
                      MPI_COMM_WORLD);
      });
      if (speaks) {
        fmt::print("{:>6} {:>6} {:>14.1f} {:>14.1f}\n", rows, width, 1e6 * ours, 1e6 * theirs);
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace restkv

int main() { return restkv::leave_cluster(restkv::run()); }
