#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "bench/job.h"
#include "bench/machine.h"

namespace restkv::bench {

/// One point of a sweep: a line of its table.
struct Case {
  size_t tokens = 0;   ///< Of the prompt.
  std::string method;  ///< As given by the user: "snapkv:kernel=21".
  CompressionOptions compression;
  KvType kv_type = KvType::kF16;
  int threads = 1;
  std::string sparse = "dense";  ///< As given by the user.

  [[nodiscard]] bool full() const { return compression.method == "full"; }
};

/// Parameters of a sweep: every combination of the lists is measured.
struct SweepPlan {
  std::string model;
  ModelOptions model_options;
  std::vector<int32_t> prompt;  ///< The longest prompt; shorter ones are its prefixes.
  std::vector<Case> cases;
  size_t decode = 0;
  int runs = 1;
  bool synthetic = false;      ///< See `Job::synthetic`.
  bool sparse_recall = false;  ///< See `Job::sparse_recall`.
};

struct CaseResult {
  Case point;
  std::vector<Measurement> runs;

  /// The minimum of a figure over all runs, because other work on a machine only increases it.
  template <class T>
  [[nodiscard]] T least(T Measurement::*figure) const {
    T least = runs.front().*figure;
    for (const Measurement& m : runs) least = m.*figure < least ? m.*figure : least;
    return least;
  }
};

struct Sweep {
  SweepPlan plan;
  std::map<int, Limits> limits;     ///< Of the machine, by number of threads.
  std::vector<CaseResult> results;  ///< Those measured at least once.
  bool interrupted = false;
};

/// Lengths x methods x budgets x storage types x threads x sparse patterns. A full cache has no
/// budget and appears once for all of them. Throws `Error` (kInvalidArgument) on a budget that a
/// method cannot have.
std::vector<Case> make_cases(const std::vector<size_t>& lengths,
                             const std::vector<std::pair<std::string, CompressionOptions>>& methods,
                             const std::vector<int>& budgets, const std::vector<KvType>& kv_types,
                             const std::vector<int>& threads,
                             const std::vector<std::string>& sparse);

/// Measures the machine, then every case in a separate process, round after round, with a progress
/// bar on standard error. `stopped` ends it early; the results so far are returned. The program's
/// `main` must handle `bench --job` by `run_job`.
Sweep run_sweep(SweepPlan plan, const std::function<bool()>& stopped);

}  // namespace restkv::bench
