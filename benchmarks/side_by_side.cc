// Compares restkv, libllama and, if installed, OpenVINO GenAI on the same prompts: speed of prefill
// and decoding, and peak memory of the process. docs/performance-details.md explains the method.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <exception>
#include <functional>
#include <iostream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "attention/attention_precision.h"
#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "base/system.h"
#include "base/threads.h"
#include "bench/child.h"
#include "bench/environment.h"
#include "bench/machine.h"
#include "bench/measure.h"
#include "bench/prompt.h"
#include "cli/argument_parser.h"
#include "cli/compression_flags.h"
#include "cli/process.h"
#include "cli/signals.h"
#include "linear/linear_precision.h"
#include "llama_side.h"
#include "restkv/error.h"
#include "restkv/model.h"
#include "restkv/sparse.h"
#include "restkv/tokenizer.h"
#include "sides.h"

namespace restkv::bench {
namespace {

using cli::print;

struct Flags {
  std::string model, text, json, openvino, sparse;
  std::vector<std::string> sides;
  std::vector<size_t> lengths{512, 2048, 8000};
  size_t decode = 64;
  int runs = 3;
  double seconds = 0;
  int threads = 0;
  uint64_t seed = 42;
  double rope_scale = 1;
  bool synthetic = false, memory = false;
  cli::CompressionFlags compression;
  bool job = false;  // set when the program starts itself
};

/// All runs of one side with one prompt.
struct SideResult {
  const Side* side;
  std::vector<Measurement> runs;

  /// The run with the smallest value of a figure.
  template <class T>
  [[nodiscard]] const Measurement& best(T Measurement::*figure) const {
    return *std::ranges::min_element(runs, {}, figure);
  }
  [[nodiscard]] double prefill_seconds() const {
    return best(&Measurement::prefill_seconds).prefill_seconds;
  }
  [[nodiscard]] double decode_seconds() const {
    return best(&Measurement::decode_seconds).decode_seconds;
  }
  [[nodiscard]] double peak_bytes() const {
    return static_cast<double>(best(&Measurement::peak_resident_bytes).peak_resident_bytes);
  }
  /// Share of compression in the fastest prefill.
  [[nodiscard]] double compress_share() const {
    const Measurement& m = best(&Measurement::prefill_seconds);
    return m.prefill_seconds > 0 ? m.compress_seconds / m.prefill_seconds : 0;
  }
};

/// One prompt length. The best setting of another runtime is chosen separately for each column.
struct LengthResult {
  size_t tokens = 0;
  std::vector<SideResult> sides;

  /// The minimum of a figure over a runtime's settings; none if it was not measured.
  template <class Figure>
  [[nodiscard]] std::optional<double> best(RuntimeName runtime, Figure figure) const {
    std::optional<double> best;
    for (const SideResult& s : sides) {
      if (s.side->runtime != runtime || s.runs.empty()) continue;
      const double value = std::invoke(figure, s);
      if (value > 0 && (!best || value < *best)) best = value;
    }
    return best;
  }
  /// Number of first decoded tokens that equal those of libllama's default setting.
  [[nodiscard]] size_t same_tokens(const SideResult& s) const {
    const auto llama = std::ranges::find(sides, RuntimeName::kLlama,
                                         [](const SideResult& r) { return r.side->runtime; });
    if (llama == sides.end() || llama->runs.empty()) return 0;
    const auto& a = s.runs.front().decoded;
    const auto& b = llama->runs.front().decoded;
    return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
  }
};

// --- Measuring -----------------------------------------------------------------------------------

const std::array<std::string, 1> kChildArguments{"--job"};

/// Whether this side is measured for such a prompt and differs from the others.
bool applies(const Side& side, size_t tokens, const Flags& flags,
             const CompressionOptions& compression) {
  if (!flags.sides.empty()) return std::ranges::find(flags.sides, side.name) != flags.sides.end();
  switch (side.runtime) {
    case RuntimeName::kLlama:
      // Only the largest ubatch that prompts fill differs, and decoding does not depend on it.
      return side.ubatch == kLlamaUbatch ||
             (tokens > kLlamaUbatch && !flags.synthetic && !flags.memory);
    case RuntimeName::kOpenVino:
      return !flags.openvino.empty() && !flags.synthetic;
    case RuntimeName::kRestkv:
      if (side.precision != "f32") {  // they differ in how they read prompts
        if (flags.synthetic || flags.memory) return false;
        if (side.sparse) return !flags.sparse.empty();
        return supports(find_linear_precision(side.precision)) &&
               supports(find_attention_precision(side.precision));
      }
      return side.full_cache || compression.method != "full";
  }
  return false;
}

/// Whether another ubatch of libllama was faster in the first round. Such settings are not measured
/// again, because a run with 8000 tokens takes more than a minute.
bool beaten(const SideResult& s, std::span<const SideResult> all) {
  return s.side->runtime == RuntimeName::kLlama &&
         std::ranges::any_of(all, [&](const SideResult& other) {
           return other.side->runtime == RuntimeName::kLlama &&
                  other.side->flash_attention == s.side->flash_attention &&
                  other.runs.front().prefill_seconds < s.runs.front().prefill_seconds;
         });
}

Measurement measure_one(const Flags& flags, const Side& side, const Job& job,
                        const std::string& title) {
  if (side.runtime != RuntimeName::kOpenVino) {
    return measure_in_process(kChildArguments, job, title, cli::interrupted);
  }
  const std::vector<std::string> arguments{RESTKV_OPENVINO_SIDE};
  const ChildResult child =
      run_program(flags.openvino, arguments, to_text(job), title, cli::interrupted);
  Measurement m = parse_measurement(child.output);
  m.peak_resident_bytes = child.peak_resident_bytes;
  return m;
}

Job make_job(const Flags& flags, const Side& side, const CompressionOptions& compression,
             std::span<const int32_t> prompt) {
  Job job;
  job.side = side.name;
  job.model = flags.model;
  if (flags.rope_scale > 1) {
    job.model_options = {.rope_scaling = "linear", .rope_factor = flags.rope_scale};
  }
  job.model_options.linear = find_linear_precision(side.precision);
  job.model_options.attention = find_attention_precision(side.precision);
  if (side.sparse) job.sparse = flags.sparse;
  job.prompt.assign(prompt.begin(), prompt.end());
  job.decode = flags.decode;
  job.threads = num_threads();
  job.compression = side.full_cache ? default_options("full") : compression;
  job.synthetic = flags.synthetic;
  if (flags.memory && side.runtime == RuntimeName::kLlama) {
    job.synthetic = true;
    job.tail = side.ubatch;
  }
  return job;
}

/// Measures in rounds, until there are enough or the time is up.
LengthResult measure_length(const Flags& flags, const CompressionOptions& compression,
                            std::span<const int32_t> prompt) {
  LengthResult result{prompt.size(), {}};
  for (const Side& side : sides()) {
    if (applies(side, prompt.size(), flags, compression)) result.sides.push_back({&side, {}});
  }
  Progress progress(stderr, fmt::format("measuring {} tokens", prompt.size()));
  const double steps = static_cast<double>(flags.runs) * static_cast<double>(result.sides.size());
  const double start = Progress::steady_seconds();
  double step = 0;
  for (int run = 0; run < flags.runs; ++run) {
    if (run > 0 && flags.seconds > 0 && Progress::steady_seconds() - start > flags.seconds) break;
    for (SideResult& s : result.sides) {
      const std::string title = s.side->title(compression);
      progress.update(step++ / steps, title);
      if (run > 0 && beaten(s, result.sides)) continue;
      s.runs.push_back(
          measure_one(flags, *s.side, make_job(flags, *s.side, compression, prompt), title));
    }
  }
  return result;
}

// --- Reporting -----------------------------------------------------------------------------------

/// Tokens per second, or nothing if the time was not measured.
std::string rate(size_t tokens, double seconds) {
  return seconds > 0 ? fmt::format("{:.1f}", static_cast<double>(tokens) / seconds) : "";
}

/// Speed relative to another runtime's best setting, and memory relative to it.
struct Ratios {
  std::optional<double> prefill, decode, memory;
};

Ratios ratios(const LengthResult& r, const SideResult& s, RuntimeName other) {
  const auto over = [](std::optional<double> theirs, double ours) {
    return theirs && ours > 0 ? std::optional(*theirs / ours) : std::nullopt;
  };
  const auto memory = r.best(other, &SideResult::peak_bytes);
  return {over(r.best(other, &SideResult::prefill_seconds), s.prefill_seconds()),
          over(r.best(other, &SideResult::decode_seconds), s.decode_seconds()),
          memory ? std::optional(s.peak_bytes() / *memory) : std::nullopt};
}

constexpr std::array kOthers{std::pair{RuntimeName::kLlama, "llama.cpp"},
                             std::pair{RuntimeName::kOpenVino, "OpenVINO"}};

std::string table(const LengthResult& r, const Flags& flags,
                  const CompressionOptions& compression) {
  const std::string heading = fmt::format("{} prompt tokens{}, {} decoded", r.tokens,
                                          flags.synthetic ? " (synthetic)" : "", flags.decode);
  std::string text = fmt::format("\n{:<44}{:>10}{:>10}{:>10}{:>13}{:>11}\n", heading, "prefill/s",
                                 "decode/s", "peak MiB", "compression", "same text");
  for (const SideResult& s : r.sides) {
    text +=
        fmt::format("{:<44}{:>10}{:>10}{:>10.1f}{:>13}{:>11}\n", s.side->title(compression),
                    rate(r.tokens, s.prefill_seconds()), rate(flags.decode, s.decode_seconds()),
                    s.peak_bytes() / (1 << 20),
                    s.side->is_restkv() ? fmt::format("{:.2f}%", 100 * s.compress_share()) : "",
                    flags.synthetic ? "" : fmt::format("{}/{}", r.same_tokens(s), flags.decode));
    if (!s.side->is_restkv()) continue;
    for (const auto& [runtime, name] : kOthers) {
      const Ratios ratio = ratios(r, s, runtime);
      if (!ratio.decode) continue;
      const auto column = [](std::optional<double> value) {
        return value ? fmt::format("{:.2f}x", *value) : "";
      };
      text += fmt::format("{:<44}{:>10}{:>10}{:>10}\n", fmt::format("  to the best of {}", name),
                          column(ratio.prefill), column(ratio.decode), column(ratio.memory));
    }
  }
  return text;
}

Json to_json(const Ratios& ratio) {
  Json json = Json::object();
  if (ratio.prefill) json["prefill"] = *ratio.prefill;
  if (ratio.decode) json["decode"] = *ratio.decode;
  if (ratio.memory) json["peak_resident_bytes"] = *ratio.memory;
  return json;
}

Json to_json(const LengthResult& r, const Flags& flags, const CompressionOptions& compression) {
  Json sides_json = Json::array();
  for (const SideResult& s : r.sides) {
    Json entry{{"side", s.side->name}, {"title", s.side->title(compression)}};
    if (s.prefill_seconds() > 0) {
      entry["prefill_tokens_per_second"] = static_cast<double>(r.tokens) / s.prefill_seconds();
    }
    entry["decode_tokens_per_second"] = static_cast<double>(flags.decode) / s.decode_seconds();
    entry["peak_resident_bytes"] = s.peak_bytes();
    if (!flags.synthetic) entry["same_tokens_as_llama"] = r.same_tokens(s);
    Json& runs = entry["runs"] = Json::array();
    for (const Measurement& run : s.runs) runs.push_back(to_json(run));
    if (s.side->is_restkv()) {
      entry["compress_share_of_prefill"] = s.compress_share();
      entry["ratio_to_best_llama"] = to_json(ratios(r, s, RuntimeName::kLlama));
      if (!flags.openvino.empty()) {
        entry["ratio_to_openvino"] = to_json(ratios(r, s, RuntimeName::kOpenVino));
      }
    }
    sides_json.push_back(std::move(entry));
  }
  return {{"prompt_tokens", r.tokens}, {"sides", std::move(sides_json)}};
}

void compare(const Flags& flags) {
  const CompressionOptions compression = flags.compression.resolve();
  if (!flags.json.empty()) require_writable(flags.json);
  // Only the vocabulary stays in memory here: see run_again.
  const ModelConfig config =
      Model(flags.model,
            {.rope_scaling = flags.rope_scale > 1 ? "linear" : "", .rope_factor = flags.rope_scale})
          .config();
  require_context(flags.lengths, flags.decode + 1, config);
  const std::vector<int32_t> prompt = make_prompt(Tokenizer(flags.model), flags.text, flags.seed,
                                                  *std::ranges::max_element(flags.lengths));

  const double load_before = load_average();
  warn_if_busy(load_before, "side_by_side");
  cli::catch_interrupts();
  const Limits limits = limits_in_process(kChildArguments, num_threads(), cli::interrupted);
  print(fmt::format("{} ({}), {}\n{}; reads {:.1f} GB/s, multiplies {:.0f} GFLOP/s in f32\n",
                    config.name, config.weight_types, flags.model, machine_description(),
                    limits.read_bytes_per_second * 1e-9, limits.sgemm_flops_per_second * 1e-9));

  Json results = Json::array();
  bool interrupted = false;
  try {
    for (const size_t length : flags.lengths) {
      const LengthResult r = measure_length(flags, compression, {prompt.data(), length});
      print(table(r, flags, compression));
      results.push_back(to_json(r, flags, compression));
    }
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInterrupted) throw;
    interrupted = true;
  }
  if (!flags.json.empty() && !results.empty()) {
    Json machine = describe_machine(machine_description(), load_before);
    machine["limits"] = to_json(limits);
    const Json report{{"date", utc_time()},
                      {"machine", machine},
                      {"software", describe_software()},
                      {"model", describe_model(config)},
                      {"prompt", flags.text.empty() ? "generated stories" : flags.text},
                      {"synthetic", flags.synthetic},
                      {"memory_only", flags.memory},
                      {"decoded_tokens", flags.decode},
                      {"threads", num_threads()},
                      {"method", compression.method},
                      {"budget", compression.budget},
                      {"sparse", flags.sparse},
                      {"results", results}};
    write_file_atomically(flags.json, report.dump(2) + "\n");
  }
  if (interrupted) {
    throw Error(ErrorCode::kInterrupted, "interrupted; lengths that were finished are kept");
  }
}

int run(int argc, char** argv) {
  Flags flags;
  cli::ArgumentParser parser(
      "side_by_side",
      "Runs the same prompts through restkv, libllama (llama.cpp) and OpenVINO GenAI, every run in "
      "a process of its own, and compares speed and peak memory.");
  parser.add("-m,--model", flags.model, "GGUF model file", "FILE");
  parser.add("--lengths", flags.lengths, "prompt lengths in tokens", "N,...").range(1, 1 << 30);
  parser.add("--decode", flags.decode, "tokens to decode after each prompt", "N").range(1, 1 << 30);
  parser.add("--runs", flags.runs, "runs of which the best counts", "N").range(1, 1000);
  parser.add("-t,--threads", flags.threads, "threads; 0 is one per processor", "N");
  std::vector<std::string> names;
  for (const Side& side : sides()) names.emplace_back(side.name);
  parser
      .add("--sides", flags.sides, fmt::format("only some of {}", fmt::join(names, ", ")),
           "NAME,...")
      .choices(names);
  parser.add("--text", flags.text, "text to make the prompts from, instead of generated stories",
             "FILE");
  parser.add("--seed", flags.seed, "seed of the generated stories", "N");
  parser.add("--json", flags.json, "write everything measured as JSON", "FILE");
  parser
      .add("--seconds", flags.seconds,
           "begin no further round of a length after so many seconds; 0: never stop early", "S")
      .range(0, 1e6);
  parser
      .add("--rope-scale", flags.rope_scale,
           "divide positions by this, so that contexts can be longer, on all sides", "X")
      .range(1, 1024);
  const cli::Option& synthetic = parser.add_flag(
      "--synthetic", flags.synthetic,
      "read no prompts: decode after caches that are filled without computing them");
  parser
      .add_flag("--memory", flags.memory,
                "for peak memory: llama.cpp's cache is filled without computing but for the last "
                "512 tokens, restkv reads the prompt")
      .excludes(synthetic);
  parser.add("--sparse", flags.sparse,
             "measure restkv with this pattern of sparse prefill, too (and with bfloat16, where "
             "that is fast)",
             "PATTERN");
  parser.add("--openvino", flags.openvino,
             "measure OpenVINO GenAI, too, with this Python, which has openvino-genai", "PYTHON");
  parser.add_flag("--job", flags.job, "").hidden();
  flags.compression.declare(parser);
  parser.set_footer(
      "Example: side_by_side -m model.gguf --lengths 512,2048 --budget 256 --json out.json\n"
      "Exit codes: 0 done, 1 input or output failed, 2 wrong options, 130 interrupted.");
  if (const auto text = parser.parse({argv + 1, argv + argc})) {
    cli::print(*text);
    return cli::kSuccess;
  }
  if (flags.job) {
    const std::string input(std::istreambuf_iterator<char>(std::cin), {});
    print(run_job(input, measure_side));
    return cli::kSuccess;
  }
  if (flags.model.empty()) throw Error(ErrorCode::kInvalidArgument, "--model is required");
  if (!flags.sparse.empty()) static_cast<void>(parse_sparse(flags.sparse));  // Throws early.
  cli::use_threads(flags.threads);
  compare(flags);
  return cli::kSuccess;
}

}  // namespace
}  // namespace restkv::bench

int main(int argc, char** argv) {
  return restkv::cli::run_main("side_by_side", [&] { return restkv::bench::run(argc, argv); });
}
