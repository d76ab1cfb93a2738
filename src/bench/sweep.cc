#include "bench/sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <utility>

#include "base/progress.h"
#include "bench/measure.h"
#include "restkv/error.h"

namespace restkv::bench {
namespace {

const std::array<std::string, 2> kChildArguments{"bench", "--job"};

std::string title(const Case& c) {
  return fmt::format("{} tokens, {}{}, {}{}, {} threads", c.tokens, c.method,
                     c.full() ? "" : fmt::format(", budget {}", c.compression.budget),
                     kv_type_name(c.kv_type), c.sparse == "dense" ? "" : ", " + c.sparse,
                     c.threads);
}

/// Rough estimate of the time of a case, for the progress bar.
double weight(const SweepPlan& plan, const Case& c) {
  constexpr double kAttentionFromTokens = 4096;
  const auto n = static_cast<double>(c.tokens);
  const double prefill = plan.synthetic ? 0 : n * (1 + n / kAttentionFromTokens);
  return (2000 + prefill + 10 * static_cast<double>(plan.decode)) / c.threads;
}

}  // namespace

std::vector<Case> make_cases(const std::vector<size_t>& lengths,
                             const std::vector<std::pair<std::string, CompressionOptions>>& methods,
                             const std::vector<int>& budgets, const std::vector<KvType>& kv_types,
                             const std::vector<int>& threads,
                             const std::vector<std::string>& sparse) {
  std::vector<Case> cases;
  for (const int thread_count : threads) {
    for (const KvType kv_type : kv_types) {
      for (const size_t tokens : lengths) {
        for (const auto& [name, options] : methods) {
          for (const std::string& pattern : sparse) {
            Case point{tokens, name, options, kv_type, thread_count, pattern};
            if (point.full()) {
              cases.push_back(point);
              continue;
            }
            for (const int budget : budgets) {
              point.compression.budget = budget;
              validate(point.compression);
              cases.push_back(point);
            }
          }
        }
      }
    }
  }
  return cases;
}

Sweep run_sweep(SweepPlan plan, const std::function<bool()>& stopped) {
  Sweep sweep{.plan = std::move(plan), .limits = {}, .results = {}, .interrupted = false};
  const SweepPlan& p = sweep.plan;
  double total = 0;
  for (const Case& c : p.cases) {
    sweep.limits[c.threads];
    total += weight(p, c) * p.runs;
  }
  std::vector<CaseResult> results;
  for (const Case& c : p.cases) results.push_back({c, {}});
  Progress progress(stderr, "measuring");
  double done = 0;
  try {
    for (auto& [threads, limits] : sweep.limits) {
      progress.update(0, "the machine's limits");
      limits = limits_in_process(kChildArguments, threads, stopped);
    }
    for (int run = 0; run < p.runs; ++run) {
      for (CaseResult& result : results) {
        const Case& c = result.point;
        progress.update(done / total, title(c));
        Job job;
        job.side = "restkv";
        job.model = p.model;
        job.model_options = p.model_options;
        job.prompt.assign(p.prompt.begin(),
                          p.prompt.begin() + static_cast<std::ptrdiff_t>(c.tokens));
        job.decode = p.decode;
        job.threads = c.threads;
        job.compression = c.compression;
        job.kv_type = c.kv_type;
        job.sparse = c.sparse;
        job.sparse_recall = p.sparse_recall && c.sparse != "dense";
        job.synthetic = p.synthetic;
        result.runs.push_back(measure_in_process(kChildArguments, job, title(c), stopped));
        done += weight(p, c);
      }
    }
    progress.finish();
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInterrupted) throw;
    sweep.interrupted = true;
  }
  std::ranges::copy_if(results, std::back_inserter(sweep.results),
                       [](const CaseResult& r) { return !r.runs.empty(); });
  return sweep;
}

}  // namespace restkv::bench
