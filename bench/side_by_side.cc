// The same prompts through restkv and through libllama: speed of reading the prompt, speed of
// decoding, peak memory of the process. docs/performance.md explains the method.

#include <dnnl_version.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <ggml.h>
#include <llama.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/progress.h"
#include "base/threads.h"
#include "child.h"
#include "cli/compression_flags.h"
#include "cli/process.h"
#include "eval/needle.h"
#include "machine.h"
#include "restkv/error.h"
#include "restkv/model.h"
#include "restkv/tokenizer.h"
#include "sides.h"

namespace restkv::bench {
namespace {

using Json = nlohmann::ordered_json;
using cli::print;

constexpr const char* kMachine = "machine";  // --only: the machine's limits instead of a side

struct Flags {
  std::string model, text, json;
  std::vector<size_t> lengths{512, 2048, 8000};
  size_t decode = 64;
  int runs = 3;
  int threads = 0;
  uint64_t seed = 42;
  cli::CompressionFlags compression;
  std::string only;
};

/// All runs of one side with one prompt.
struct SideResult {
  const Side* side;
  std::vector<Measurement> runs;

  /// The run in which this figure is least.
  template <class T>
  [[nodiscard]] const Measurement& best(T Measurement::*figure) const {
    return *std::min_element(runs.begin(), runs.end(),
                             [&](const auto& a, const auto& b) { return a.*figure < b.*figure; });
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
  /// Share of the fastest prefill that went into choosing tokens.
  [[nodiscard]] double compress_share() const {
    const Measurement& m = best(&Measurement::prefill_seconds);
    return m.compress_seconds / m.prefill_seconds;
  }
};

/// One prompt length. The best libllama of each column may be another setting: what a user could
/// reach with the best choice for that column alone.
struct LengthResult {
  size_t tokens = 0;
  std::vector<SideResult> sides;

  template <class Figure>
  [[nodiscard]] double best_llama(Figure figure) const {
    double best = 0;
    for (const SideResult& s : sides) {
      if (s.side->llama && (best == 0 || std::invoke(figure, s) < best))
        best = std::invoke(figure, s);
    }
    return best;
  }
  /// How many of the first decoded tokens are those of libllama's default setting.
  [[nodiscard]] size_t same_tokens(const SideResult& s) const {
    const auto llama =
        std::find_if(sides.begin(), sides.end(), [](const SideResult& r) { return r.side->llama; });
    const auto& a = s.runs.front().decoded;
    const auto& b = llama->runs.front().decoded;
    return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin()).first - a.begin());
  }
};

// --- The prompt ----------------------------------------------------------------------------------

/// As many token ids as the longest prompt needs; shorter prompts are its beginning.
std::vector<int32_t> make_prompt(const Flags& flags, const Tokenizer& tokenizer) {
  const size_t wanted = *std::max_element(flags.lengths.begin(), flags.lengths.end());
  std::string text;
  if (flags.text.empty()) {
    constexpr size_t kSpare = 256;  // the haystack ends before the question and in a whole sentence
    text = eval::make_needle_prompt(
               {.seed = flags.seed, .target_tokens = wanted + kSpare},
               [&](std::string_view part) { return tokenizer.encode(part, true, false).size(); })
               .text;
  } else {
    text = read_file(flags.text);
  }
  std::vector<int32_t> tokens = tokenizer.encode(text, true, false);
  if (tokens.size() < wanted) {
    throw Error(
        ErrorCode::kInput,
        fmt::format("{} has {} tokens, but --lengths asks for {}; give a longer text or "
                    "shorter lengths",
                    flags.text.empty() ? "the generated text" : flags.text, tokens.size(), wanted));
  }
  tokens.resize(wanted);
  return tokens;
}

// --- In a process of its own ---------------------------------------------------------------------

std::vector<int32_t> read_tokens() {
  const std::string bytes(std::istreambuf_iterator<char>(std::cin), {});
  std::vector<int32_t> tokens(bytes.size() / sizeof(int32_t));
  std::copy_n(bytes.data(), tokens.size() * sizeof(int32_t),
              reinterpret_cast<char*>(tokens.data()));
  if (tokens.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "--only expects token ids (32-bit, binary) on standard input; leave it out");
  }
  return tokens;
}

void run_child(const Flags& flags) {
  if (flags.only == kMachine) {
    print(Json{{"sgemm_flops_per_second", gemm_rate()}, {"read_bytes_per_second", read_bandwidth()}}
              .dump());
    return;
  }
  const Side& side = find_side(flags.only);
  const Measurement m = measure(side, {.model = flags.model,
                                       .prompt = read_tokens(),
                                       .decode = flags.decode,
                                       .threads = num_threads(),
                                       .compression = flags.compression.resolve()});
  print(nlohmann::json(m).dump());
}

// --- Measuring -----------------------------------------------------------------------------------

/// Starts this program again with the same options and --only.
class Children {
 public:
  explicit Children(std::span<char* const> arguments)
      : arguments_(arguments.begin(), arguments.end()) {
    arguments_.insert(arguments_.end(), {"--only", ""});
  }
  ChildResult run(std::string_view only, std::span<const int32_t> tokens, std::string_view what) {
    arguments_.back() = only;
    return run_again(
        arguments_, {reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(int32_t)},
        what);
  }

 private:
  std::vector<std::string> arguments_;
};

/// Whether another ubatch of libllama was faster in the first round. Such a setting is not measured
/// again: at 8000 tokens a run takes more than a minute.
bool beaten(const SideResult& s, std::span<const SideResult> all) {
  return s.side->llama && std::any_of(all.begin(), all.end(), [&](const SideResult& other) {
           return other.side->llama && other.side->flash_attention == s.side->flash_attention &&
                  other.runs.front().prefill_seconds < s.runs.front().prefill_seconds;
         });
}

LengthResult measure_length(const Flags& flags, const CompressionOptions& compression,
                            std::span<const int32_t> prompt, Children& children) {
  LengthResult result{prompt.size(), {}};
  for (const Side& side : sides()) {
    if (side.applies(prompt.size(), compression)) result.sides.push_back({&side, {}});
  }
  Progress progress(stderr, fmt::format("measuring {} tokens", prompt.size()));
  const double steps = static_cast<double>(flags.runs) * static_cast<double>(result.sides.size());
  double step = 0;
  for (int run = 0; run < flags.runs; ++run) {
    for (SideResult& s : result.sides) {
      const std::string title = s.side->title(compression);
      progress.update(step++ / steps, title);
      if (run > 0 && beaten(s, result.sides)) continue;
      const ChildResult child = children.run(s.side->name, prompt, title);
      auto m = nlohmann::json::parse(child.output).get<Measurement>();
      m.peak_resident_bytes = child.peak_resident_bytes;
      s.runs.push_back(std::move(m));
    }
  }
  return result;
}

double load_average() {
  double load = 0;
  return getloadavg(&load, 1) == 1 ? load : 0;
}

// --- Reporting -----------------------------------------------------------------------------------

std::string table(const LengthResult& r, const Flags& flags,
                  const CompressionOptions& compression) {
  const std::string heading = fmt::format("{} prompt tokens, {} decoded", r.tokens, flags.decode);
  std::string text = fmt::format("\n{:<44}{:>10}{:>10}{:>10}{:>13}{:>11}\n", heading, "prefill/s",
                                 "decode/s", "peak MiB", "compression", "same text");
  for (const SideResult& s : r.sides) {
    text += fmt::format(
        "{:<44}{:>10.1f}{:>10.1f}{:>10.1f}{:>13}{:>11}\n", s.side->title(compression),
        static_cast<double>(r.tokens) / s.prefill_seconds(),
        static_cast<double>(flags.decode) / s.decode_seconds(), s.peak_bytes() / (1 << 20),
        s.side->llama ? "" : fmt::format("{:.2f}%", 100 * s.compress_share()),
        fmt::format("{}/{}", r.same_tokens(s), flags.decode));
    if (s.side->llama) continue;
    text += fmt::format("{:<44}{:>9.2f}x{:>9.2f}x{:>9.2f}x\n", "  to the best of llama.cpp",
                        r.best_llama(&SideResult::prefill_seconds) / s.prefill_seconds(),
                        r.best_llama(&SideResult::decode_seconds) / s.decode_seconds(),
                        s.peak_bytes() / r.best_llama(&SideResult::peak_bytes));
  }
  return text;
}

Json to_json(const LengthResult& r, const Flags& flags, const CompressionOptions& compression) {
  Json sides_json = Json::array();
  for (const SideResult& s : r.sides) {
    Json entry{{"side", s.side->name},
               {"title", s.side->title(compression)},
               {"prefill_tokens_per_second", static_cast<double>(r.tokens) / s.prefill_seconds()},
               {"decode_tokens_per_second", static_cast<double>(flags.decode) / s.decode_seconds()},
               {"peak_resident_bytes", s.peak_bytes()},
               {"same_tokens_as_llama", r.same_tokens(s)},
               {"runs", nlohmann::json(s.runs)}};
    if (!s.side->llama) {
      entry["compress_share_of_prefill"] = s.compress_share();
      entry["ratio_to_best_llama"] = {
          {"prefill", r.best_llama(&SideResult::prefill_seconds) / s.prefill_seconds()},
          {"decode", r.best_llama(&SideResult::decode_seconds) / s.decode_seconds()},
          {"peak_resident_bytes", s.peak_bytes() / r.best_llama(&SideResult::peak_bytes)}};
    }
    sides_json.push_back(std::move(entry));
  }
  return {{"prompt_tokens", r.tokens}, {"sides", std::move(sides_json)}};
}

Json describe_machine(double load_before, const Json& limits) {
  utsname system{};
  uname(&system);
  return {{"description", cli::machine_description()},
          {"processors", std::thread::hardware_concurrency()},
          {"memory_bytes", sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE)},
          {"system", fmt::format("{} {} {}", system.sysname, system.release, system.machine)},
          {"compiler", __VERSION__},
          {"load_average_before", load_before},
          {"load_average_after", load_average()},
          {"limits", limits}};
}

Json describe_software() {
  return {{"restkv", RESTKV_VERSION},
          {"libllama", llama_version()},
          {"ggml", ggml_version()},
          {"ggml_features", llama_print_system_info()},
          {"onednn",
           fmt::format("{}.{}.{}", DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, DNNL_VERSION_PATCH)}};
}

void require_context(const Flags& flags, const ModelConfig& config) {
  for (const size_t length : flags.lengths) {
    if (length + flags.decode > config.context_length) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("--lengths {} and --decode {} do not fit into the model's context of "
                              "{} tokens; lower one of them or use a model with a longer context",
                              length, flags.decode, config.context_length));
    }
  }
}

void compare(const Flags& flags, std::span<char* const> arguments) {
  const CompressionOptions compression = flags.compression.resolve();
  // Only the vocabulary stays in memory here: see run_again.
  const ModelConfig config = Model(flags.model).config();
  require_context(flags, config);
  const std::vector<int32_t> prompt = make_prompt(flags, Tokenizer(flags.model));

  const double load_before = load_average();
  if (load_before > 0.5) {
    std::fputs(fmt::format("side_by_side: the load average is {:.2f}; figures of a busy machine "
                           "mean little\n",
                           load_before)
                   .c_str(),
               stderr);
  }
  Children children(arguments);
  const Json limits = Json::parse(children.run(kMachine, {}, "the machine's limits").output);
  print(fmt::format("{} ({}), {}\n{}; reads {:.1f} GB/s, multiplies {:.0f} GFLOP/s in f32\n",
                    config.name, config.weight_types, flags.model, cli::machine_description(),
                    limits["read_bytes_per_second"].get<double>() * 1e-9,
                    limits["sgemm_flops_per_second"].get<double>() * 1e-9));

  Json results = Json::array();
  for (const size_t length : flags.lengths) {
    const LengthResult r = measure_length(flags, compression, {prompt.data(), length}, children);
    print(table(r, flags, compression));
    results.push_back(to_json(r, flags, compression));
  }
  if (flags.json.empty()) return;
  const Json report{{"date", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))},
                    {"machine", describe_machine(load_before, limits)},
                    {"software", describe_software()},
                    {"model",
                     {{"name", config.name},
                      {"architecture", config.architecture},
                      {"weight_types", config.weight_types},
                      {"file_bytes", config.file_bytes},
                      {"context_length", config.context_length},
                      {"kv_bytes_per_token", config.kv_bytes(1)}}},
                    {"prompt", flags.text.empty() ? "generated stories" : flags.text},
                    {"decoded_tokens", flags.decode},
                    {"threads", num_threads()},
                    {"method", compression.method},
                    {"budget", compression.budget},
                    {"results", results}};
  write_file_atomically(flags.json, report.dump(2) + "\n");
}

int run(int argc, char** argv) {
  Flags flags;
  CLI::App app(
      "Runs the same prompts through restkv and through libllama (llama.cpp), every run in a "
      "process of its own, and compares speed and peak memory.");
  app.name("side_by_side");
  app.add_option("-m,--model", flags.model, "GGUF model file")->required()->type_name("FILE");
  app.add_option("--lengths", flags.lengths, "prompt lengths in tokens, separated by commas")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 30).description(""))
      ->type_name("N");
  app.add_option("--decode", flags.decode, "tokens to decode after each prompt")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 30).description(""))
      ->type_name("N");
  app.add_option("--runs", flags.runs, "runs of which the best counts")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000).description(""))
      ->type_name("N");
  app.add_option("-t,--threads", flags.threads, "threads; 0 is one per processor")
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--text", flags.text,
                 "text to make the prompts from, instead of generated stories")
      ->type_name("FILE");
  app.add_option("--seed", flags.seed, "seed of the generated stories")
      ->capture_default_str()
      ->type_name("N");
  app.add_option("--json", flags.json, "write everything measured as JSON")->type_name("FILE");
  app.add_option("--only", flags.only)->group("");  // how the program starts itself
  flags.compression.declare(app);
  app.footer(
      "Example: side_by_side -m model.gguf --lengths 512,2048 --budget 256 --json out.json\n"
      "Exit codes: 0 done, 1 input or output failed, 2 wrong options.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? cli::kSuccess : cli::kUsage;
  }
  cli::use_threads(flags.threads);
  if (flags.only.empty()) {
    compare(flags, {argv + 1, static_cast<size_t>(argc - 1)});
  } else {
    run_child(flags);
  }
  return cli::kSuccess;
}

}  // namespace
}  // namespace restkv::bench

int main(int argc, char** argv) {
  using restkv::ErrorCode;
  try {
    return restkv::bench::run(argc, argv);
  } catch (const restkv::Error& e) {
    std::fputs(fmt::format("side_by_side: {}\n", e.what()).c_str(), stderr);
    return e.code() == ErrorCode::kInvalidArgument ? restkv::cli::kUsage : restkv::cli::kFailure;
  } catch (const std::exception& e) {
    std::fputs(fmt::format("side_by_side: {}\n", e.what()).c_str(), stderr);
    return restkv::cli::kFailure;
  }
}
