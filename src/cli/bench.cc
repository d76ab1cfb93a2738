#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/system.h"
#include "bench/environment.h"
#include "bench/measure.h"
#include "bench/prompt.h"
#include "bench/sweep.h"
#include "bench/sweep_report.h"
#include "cli/command.h"
#include "cli/command_files.h"
#include "cli/compression_flags.h"
#include "cli/model_argument.h"
#include "cli/model_flags.h"
#include "cli/output_file.h"
#include "cli/process.h"
#include "cli/signals.h"
#include "restkv/error.h"
#include "restkv/sparse.h"
#include "restkv/threads.h"
#include "restkv/tokenizer.h"

namespace restkv::cli {
namespace {

struct BenchFlags {
  std::string model, text, json, csv, svg;
  ModelFlags model_flags;
  std::vector<size_t> lengths{512, 2048, 8000};
  std::vector<std::string> methods{"full", "restkv"};
  std::vector<int> budgets{1024};
  std::vector<std::string> kv_types{"f16"};
  std::vector<int> threads;
  std::vector<std::string> sparse{"dense"};
  size_t decode = 64;
  int runs = 3;
  uint64_t seed = 42;
  bool sparse_recall = false;
  bool synthetic = false;
  bool job = false;  // how the program starts itself
};

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}

int processors() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

std::vector<int> thread_counts(const BenchFlags& flags) {
  if (flags.threads.empty()) return {usable_processors()};
  for (const int threads : flags.threads) {
    if (threads < 1 || threads > processors()) {
      refuse(fmt::format("--threads is {}; expected 1 to {}, the processors of this machine",
                         threads, processors()));
    }
  }
  return flags.threads;
}

using MethodList = std::vector<std::pair<std::string, CompressionOptions>>;

MethodList parse_methods(const BenchFlags& flags) {
  MethodList list;
  for (const std::string& text : flags.methods) {
    const CompressionOptions options = parse_method(text);
    if (flags.synthetic && (options.allocation != "uniform" || options.per_query_head)) {
      refuse(
          fmt::format("--synthetic fills all heads alike, which {} would not; leave one of them "
                      "out",
                      text));
    }
    list.emplace_back(text, options);
  }
  return list;
}

/// A cache that does not fit is better refused now than killed later.
void require_memory(const std::vector<bench::Case>& cases, const ModelConfig& config) {
  const auto memory =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
  for (const bench::Case& c : cases) {
    const size_t kept =
        c.full() ? c.tokens : std::min(c.tokens, static_cast<size_t>(c.compression.budget));
    const double least =
        static_cast<double>(config.kv_bytes(c.tokens, kept)) * (c.kv_type == KvType::kF32   ? 2.0
                                                                : c.kv_type == KvType::kF16 ? 1.0
                                                                                            : 0.25);
    if (least < memory) continue;
    refuse(
        fmt::format("the cache of {} tokens under {} would take {}, and this machine has {} of "
                    "memory; use fewer --lengths or a --budget",
                    c.tokens, c.method, human_bytes(least), human_bytes(memory)));
  }
}

bool writes_to_standard_output(const BenchFlags& flags) {
  const std::array paths{flags.json, flags.csv, flags.svg};
  return std::ranges::count(paths, kStandardOutput) > 0;
}

/// Rows that name a budget and are the full cache.
void tell_unused_budgets(const std::vector<bench::Case>& cases) {
  std::map<int, std::set<size_t>> lengths;
  for (const bench::Case& c : cases) {
    const bool evicts = static_cast<size_t>(c.compression.budget) < c.tokens;
    if (!c.full() && !evicts) lengths[c.compression.budget].insert(c.tokens);
  }
  for (const auto& [budget, tokens] : lengths) {
    notice(fmt::format("nothing is evicted at budget {} from {} tokens", budget,
                       fmt::join(tokens, ", ")));
  }
}

/// Whether results can be written, before there are any.
void check_files(const BenchFlags& flags, const MethodList& methods) {
  CommandFiles files;
  files.reads("--model", flags.model);
  files.reads("--text", flags.text);
  for (const auto& [text, options] : methods) {
    files.reads(text, options.profile);
    files.reads(text, options.statistics);
  }
  files.writes("--json", flags.json);
  files.writes("--csv", flags.csv);
  files.writes("--svg", flags.svg);
}

bench::SweepPlan make_plan(const BenchFlags& flags) {
  require_model(flags.model);
  const MethodList methods = parse_methods(flags);
  if (flags.budgets != BenchFlags{}.budgets) require_use_for_budget(flags.methods);
  check_files(flags, methods);
  if (std::ranges::count(flags.lengths, 0U) > 0) refuse("--lengths is 0; expected 1 or more");
  std::vector<KvType> kv_types;
  for (const std::string& name : flags.kv_types) kv_types.push_back(find_kv_type(name));
  for (const std::string& pattern : flags.sparse) {
    if (parse_sparse(pattern).pattern != "dense" && flags.synthetic) {
      refuse(
          fmt::format("--sparse {} is about reading prompts, which --synthetic does not", pattern));
    }
  }
  if (flags.seed != BenchFlags{}.seed && (flags.synthetic || !flags.text.empty())) {
    refuse("--seed is for the generated stories, which --text and --synthetic do without");
  }
  if (flags.synthetic && !flags.text.empty()) {
    refuse("--text has no effect with --synthetic, which reads no prompt");
  }
  if (flags.sparse_recall && flags.sparse == std::vector<std::string>{"dense"}) {
    refuse("--sparse-recall has no effect without --sparse");
  }
  if (flags.synthetic && flags.model_flags.precision_given()) {
    refuse("--linear and --attention are about reading prompts, which --synthetic does not");
  }
  bench::SweepPlan plan{.model = {},
                        .model_options = flags.model_flags.resolve(),
                        .prompt = {},
                        .cases = bench::make_cases(flags.lengths, methods, flags.budgets, kv_types,
                                                   thread_counts(flags), flags.sparse),
                        .decode = flags.decode,
                        .runs = flags.runs,
                        .synthetic = flags.synthetic,
                        .sparse_recall = flags.sparse_recall};
  plan.model = model_file(flags.model);
  const ModelConfig config = Model(plan.model, plan.model_options).config();
  // A synthetic cache is followed by one more token that is not timed.
  bench::require_context(flags.lengths, flags.decode + (flags.synthetic ? 1 : 0), config);
  for (const bench::Case& c : plan.cases) validate(c.compression, config.cache_shape());
  require_memory(plan.cases, config);
  // Only the token ids stay in memory: see run_again.
  plan.prompt = bench::make_prompt(Tokenizer(plan.model), flags.text, flags.seed,
                                   *std::ranges::max_element(flags.lengths));
  return plan;
}

int run_sweep(const BenchFlags& flags) {
  const bench::SweepPlan plan = make_plan(flags);
  const ModelConfig config = Model(plan.model, plan.model_options).config();
  tell_unused_budgets(plan.cases);
  const double load = bench::load_average();
  bench::warn_if_busy(load, "restkv bench");

  catch_interrupts();
  const bench::Sweep sweep = bench::run_sweep(plan, interrupted);
  release_interrupts();
  if (sweep.results.empty())
    throw Error(ErrorCode::kInterrupted, "interrupted; nothing was measured");

  const std::string heading =
      fmt::format("{} ({}), {}", config.name, config.weight_types, processor_name());
  std::string text = heading + "\n";
  for (const auto& [threads, limits] : sweep.limits) {
    text += fmt::format("limits with {} thread{}: sgemm {:.0f} GFLOP/s, read {:.1f} GB/s\n",
                        threads, threads == 1 ? "" : "s", limits.sgemm_flops_per_second * 1e-9,
                        limits.read_bytes_per_second * 1e-9);
  }
  text += "\n" + bench::table(sweep);
  if (writes_to_standard_output(flags)) {  // which a program reads
    say(text);
  } else {
    print(text);
  }

  if (!flags.json.empty()) {
    Json limits = Json::array();
    for (const auto& [threads, l] : sweep.limits) {
      limits.push_back({{"threads", threads},
                        {"sgemm_flops_per_second", l.sgemm_flops_per_second},
                        {"read_bytes_per_second", l.read_bytes_per_second}});
    }
    const Json report{{"date", bench::utc_time()},
                      {"machine", bench::describe_machine(processor_name(), load)},
                      {"limits", limits},
                      {"software", bench::describe_software()},
                      {"model", bench::describe_model(config)},
                      {"linear", linear_precision_name(plan.model_options.linear)},
                      {"attention", attention_precision_name(plan.model_options.attention)},
                      {"prompt", flags.synthetic      ? "random cache"
                                 : flags.text.empty() ? "generated stories"
                                                      : flags.text},
                      {"decoded_tokens", flags.decode},
                      {"interrupted", sweep.interrupted},
                      {"results", bench::figures(sweep)}};
    write_output(flags.json, report.dump(2) + "\n");
  }
  if (!flags.csv.empty()) write_output(flags.csv, bench::csv(sweep));
  if (!flags.svg.empty()) write_output(flags.svg, bench::svg(sweep, heading));
  if (sweep.interrupted) {
    throw Error(ErrorCode::kInterrupted, "interrupted; the figures are those of the runs before");
  }
  return kSuccess;
}

int run_one_job() {
  const std::string input(std::istreambuf_iterator<char>(std::cin), {});
  print(bench::run_job(input));
  return kSuccess;
}

}  // namespace

std::function<int()> declare_bench(ArgumentParser& parser) {
  auto flags = std::make_shared<BenchFlags>();
  declare_model(parser, flags->model);
  parser.add("--lengths", flags->lengths, "prompt lengths in tokens", "N,...");
  parser.add("--method", flags->methods, "methods with options, for instance restkv:kernel=21",
             "NAME,...");
  parser.add("--budget", flags->budgets, "tokens kept per layer and KV head", "N,...");
  parser.add("--kv-type", flags->kv_types, "how kept keys and values are stored: f16, f32, q8, q4",
             "TYPE,...");
  parser.add("--sparse", flags->sparse,
             "patterns that leave out tiles of a prompt's attention, or dense", "PATTERN,...");
  parser.add_flag(
      "--sparse-recall", flags->sparse_recall,
      "measure the attention mass in the tiles that patterns keep; the time it takes is left out");
  parser.add("-t,--threads", flags->threads, "threads; one per processor if not given", "N,...");
  parser.add("--decode", flags->decode, "tokens to decode after each prompt", "N")
      .range(1, 1 << 30);
  parser.add("--runs", flags->runs, "runs of which the best counts", "N").range(1, 1000);
  parser.add_flag("--synthetic", flags->synthetic,
                  "read no prompt: decode after a cache of random rows, which takes seconds at any "
                  "length");
  flags->model_flags.declare(parser);
  parser.add("--text", flags->text, "text to make prompts from, instead of generated stories",
             "FILE");
  parser.add("--seed", flags->seed, "seed of the generated stories", "N");
  parser.add("--json", flags->json, "write everything measured as JSON; - is standard output",
             "FILE");
  parser.add("--csv", flags->csv, "write the table as CSV; likewise", "FILE");
  parser.add("--svg", flags->svg, "draw the figures as curves; likewise", "FILE");
  parser.add_flag("--job", flags->job, "").hidden();
  parser.set_footer(
      "Every combination is measured, each run in a process of its own, and the best of all runs "
      "counts.\n\n"
      "Examples:\n"
      "  restkv bench -m model.gguf --lengths 512,2048 --method full,snapkv,restkv:kernel=21\n"
      "  restkv bench -m model.gguf --lengths 4096 --budget 128,512,2048 --svg budgets.svg\n"
      "  restkv bench -m model.gguf --synthetic --lengths 32768,131072 --rope-scaling linear "
      "--rope-scale 17 --decode 16 --csv decode.csv\n"
      "  restkv bench -m model.gguf --text book.txt --lengths 8192 --sparse dense,xattention "
      "--sparse-recall");
  return [flags] { return flags->job ? run_one_job() : run_sweep(*flags); };
}

}  // namespace restkv::cli
