// Many clients of one model: tokens per second and waiting times beside libllama, what a long
// prompt does to answers that are being written, and what a cache saves that is already there.
// docs/performance-details.md explains the method.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iostream>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "base/stopwatch.h"
#include "base/system.h"
#include "base/threads.h"
#include "bench/child.h"
#include "bench/environment.h"
#include "bench/prompt.h"
#include "cli/argument_parser.h"
#include "cli/model_flags.h"
#include "cli/process.h"
#include "cli/signals.h"
#include "restkv/error.h"
#include "restkv/model.h"
#include "restkv/tokenizer.h"
#include "server/scheduler/scheduler.h"
#include "serving/listener.h"
#include "serving/streams.h"

namespace restkv::bench {
namespace {

using cli::print;
using server::Request;
using server::Scheduler;

struct Flags {
  std::string model, json;
  std::vector<size_t> streams{1, 4, 16}, lengths{512, 8000};
  std::vector<std::string> sides{"restkv", "restkv-full", "llama", "llama-fa"};
  size_t decode = 64;
  size_t answers = 8, prompt = 8000, question = 30;
  double prompt_share = 0.75;
  double rope_scale = 2;
  int budget = 512;
  int threads = 0;
  double load_before = 0;
  bool job = false;  // set when the program starts itself
};

/// Value below which a part of the sorted values lies.
double quantile(std::vector<double> values, double part) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  return values[static_cast<size_t>(part * static_cast<double>(values.size() - 1))];
}

std::vector<double> gaps_between(std::span<const double> times) {
  std::vector<double> gaps;
  for (size_t i = 1; i < times.size(); ++i) gaps.push_back(times[i] - times[i - 1]);
  return gaps;
}

ModelOptions model_options(const Flags& flags) {
  ModelOptions options = cli::ModelFlags().resolve();
  if (flags.rope_scale > 1) {
    options.rope_scaling = "linear";
    options.rope_factor = flags.rope_scale;
  }
  return options;
}

void write_report(const Flags& flags, const char* scenario, const Json& measured) {
  if (flags.json.empty()) return;
  const Json report{{"date", utc_time()},
                    {"machine", describe_machine(machine_description(), flags.load_before)},
                    {"software", describe_software()},
                    {"model", describe_model(Model(flags.model, model_options(flags)).config())},
                    {"budget", flags.budget},
                    {"threads", num_threads()},
                    {scenario, measured}};
  write_file_atomically(flags.json, report.dump(2) + "\n");
}

// --- Clients beside libllama ---------------------------------------------------------------------

struct StreamsResult {
  std::string side;
  double tokens_per_second = 0;
  double first_p50 = 0, first_p95 = 0, gap_p50 = 0, gap_p95 = 0;
  size_t resident_bytes = 0;
};

std::string title(const std::string& side, int budget) {
  if (side == "restkv") return fmt::format("restkv, budget {}", budget);
  if (side == "restkv-full") return "restkv, full cache";
  return side == "llama" ? "libllama" : "libllama, flash attention";
}

StreamsResult summary(const std::string& side, const StreamsTimes& times) {
  StreamsResult result;
  result.side = side;
  result.resident_bytes = times.resident_bytes;
  std::vector<double> gaps;
  double begin = std::numeric_limits<double>::infinity();
  double end = 0;
  size_t tokens = 0;
  for (const auto& client : times.tokens) {
    const auto own = gaps_between(client);
    gaps.insert(gaps.end(), own.begin(), own.end());
    begin = std::min(begin, client.front());
    end = std::max(end, client.back());
    tokens += client.size() - 1;  // the first of each only starts the clock
  }
  result.tokens_per_second = static_cast<double>(tokens) / (end - begin);
  result.first_p50 = quantile(times.first_tokens, 0.5);
  result.first_p95 = quantile(times.first_tokens, 0.95);
  result.gap_p50 = quantile(gaps, 0.5);
  result.gap_p95 = quantile(gaps, 0.95);
  return result;
}

/// Of one number of tokens in each prompt.
void compare_streams(const Flags& flags, const Tokenizer& tokenizer, size_t length, Json& report) {
  const size_t most = std::ranges::max(flags.streams);
  const std::vector<int32_t> text = make_prompt(tokenizer, "", 42, length + most * 97);
  std::vector<std::string> sides = flags.sides;
  // Where memory is not measured, there is no slope.
  std::vector<std::pair<std::string, std::pair<size_t, size_t>>> least;
  for (const size_t streams : flags.streams) {
    StreamsJob job;
    job.model = flags.model;
    job.rope_scale = flags.rope_scale;
    job.decode = flags.decode;
    job.budget = flags.budget;
    job.threads = num_threads();
    for (size_t i = 0; i < streams; ++i) {
      const auto from = text.begin() + static_cast<std::ptrdiff_t>(i * 97);
      job.prompts.emplace_back(from, from + static_cast<std::ptrdiff_t>(length));
    }
    print(fmt::format(
        "\n{:<34}{:>10}{:>12}{:>12}{:>10}{:>10}{:>14}\n",
        fmt::format("{} client{} of {} tokens", streams, streams == 1 ? "" : "s", length),
        "tokens/s", "first p50 s", "first p95 s", "gap p50", "gap p95 ms", "resident MiB"));
    std::vector<StreamsResult> results;
    for (const std::string& side : sides) {
      job.side = side;
      const std::array<std::string, 1> arguments{"--job"};
      const ChildResult child =
          run_again(arguments, to_text(job), title(side, flags.budget), cli::interrupted);
      const StreamsResult r = summary(side, parse_streams(child.output));
      results.push_back(r);
      print(fmt::format("{:<34}{:>10.1f}{:>12.2f}{:>12.2f}{:>10.1f}{:>10.1f}{:>14.0f}\n",
                        "  " + title(side, flags.budget), r.tokens_per_second, r.first_p50,
                        r.first_p95, 1000 * r.gap_p50, 1000 * r.gap_p95,
                        static_cast<double>(r.resident_bytes) / (1 << 20)));
      report.push_back(Json::object({{"tokens", length},
                                     {"clients", streams},
                                     {"side", side},
                                     {"tokens_per_second", r.tokens_per_second},
                                     {"first_p50_seconds", r.first_p50},
                                     {"first_p95_seconds", r.first_p95},
                                     {"gap_p50_seconds", r.gap_p50},
                                     {"gap_p95_seconds", r.gap_p95},
                                     {"resident_bytes", r.resident_bytes}}));
      const auto before = std::ranges::find(least, side, &decltype(least)::value_type::first);
      if (before == least.end()) {
        least.push_back({side, {streams, r.resident_bytes}});
      } else if (r.resident_bytes > before->second.second) {
        print(fmt::format("  {:<32}{:>10.1f} MiB resident for each client more\n", "",
                          static_cast<double>(r.resident_bytes - before->second.second) /
                              static_cast<double>(streams - before->second.first) / (1 << 20)));
      }
    }
    const auto best_llama = [&](auto figure) {
      std::optional<double> best;
      for (const StreamsResult& r : results) {
        if (r.side.starts_with("llama")) best = std::max(best.value_or(0), std::invoke(figure, r));
      }
      return best;
    };
    const auto rate = best_llama(&StreamsResult::tokens_per_second);
    const auto first = best_llama([](const StreamsResult& r) { return 1 / r.first_p50; });
    for (const StreamsResult& r : results) {
      if (r.side.starts_with("llama") || !rate) continue;
      print(fmt::format(
          "  {} against libllama's better setting: {:.1f} x tokens/s, {:.1f} x sooner\n",
          title(r.side, flags.budget), r.tokens_per_second / *rate, 1 / r.first_p50 / *first));
    }
    // A prompt of thousands of tokens takes libllama half a minute: its slower setting is left out.
    std::erase_if(sides, [&](const std::string& side) {
      const auto own = std::ranges::find(results, side, &StreamsResult::side);
      return side.starts_with("llama") && own->first_p50 * *first > 1.02;
    });
  }
}

// --- One scheduler ---------------------------------------------------------------------------

/// A scheduler of this process, and what is sent to it.
class Served {
 public:
  explicit Served(const Flags& flags)
      : model_(flags.model, model_options(flags)), tokenizer_(flags.model) {
    server::SchedulerOptions options;
    options.session.compression.budget = flags.budget;
    options.session.interval = 64;
    options.max_answers = flags.answers + 1;
    options.prompt_share = flags.prompt_share;
    scheduler_.emplace(model_, tokenizer_, options);
  }

  struct Sent {
    server::RequestId id;
    double at;
    std::shared_ptr<TokenTimes> times;

    /// Seconds until the first token.
    [[nodiscard]] double first() const {
      times->wait_for(1);
      return times->times().front() - at;
    }
  };
  Sent send(std::vector<int32_t> prompt, size_t tokens,
            std::optional<server::DocumentId> document = {}, bool reuse = false) {
    Request request;
    request.prompt = std::move(prompt);
    request.document = std::move(document);
    request.reuse = reuse;
    request.generation.max_tokens = tokens;
    for (const int32_t end : tokenizer_.end_tokens()) {
      request.generation.logit_bias.emplace_back(end, -std::numeric_limits<float>::infinity());
    }
    auto times = std::make_shared<TokenTimes>(clock_);
    request.listener = times;
    const double at = clock_.seconds();
    return {scheduler_->submit(std::move(request)), at, times};
  }

  Scheduler& scheduler() { return *scheduler_; }
  [[nodiscard]] std::vector<int32_t> text(uint64_t seed, size_t tokens) const {
    return make_prompt(tokenizer_, "", seed, tokens);
  }
  [[nodiscard]] double now() const { return clock_.seconds(); }

 private:
  Model model_;
  Tokenizer tokenizer_;
  Stopwatch clock_;
  std::optional<Scheduler> scheduler_;
};

void long_prompt(const Flags& flags) {
  constexpr size_t kShort = 200;
  Served served(flags);
  served.send(served.text(1, flags.prompt), 1).times->wait();  // warms up
  const Served::Sent alone = served.send(served.text(2, flags.prompt), 1);
  alone.times->wait();
  const double alone_seconds = alone.times->usage().prompt_seconds;

  std::vector<Served::Sent> answers;
  for (size_t i = 0; i < flags.answers; ++i) {
    answers.push_back(served.send(served.text(i + 5, kShort), 100000));
  }
  for (const auto& answer : answers) answer.times->wait_for(2);
  const double before = served.now();
  answers[0].times->wait_for(100);
  const double begin = served.now();
  const Served::Sent beside = served.send(served.text(3, flags.prompt), 1);
  beside.times->wait();
  const double end = served.now();
  const double beside_seconds = beside.times->usage().prompt_seconds;
  std::vector<double> without, with;
  for (const auto& answer : answers) {
    const std::vector<double> times = answer.times->times();
    for (size_t i = 1; i < times.size(); ++i) {
      const double gap = times[i] - times[i - 1];
      if (times[i - 1] >= before && times[i] <= begin) without.push_back(gap);
      if (times[i - 1] >= begin && times[i] <= end) with.push_back(gap);
    }
    served.scheduler().cancel(answer.id);
  }
  const auto show = [](const char* name, const std::vector<double>& gaps) {
    print(fmt::format("{}: {} gaps, p50 {:.1f} ms, p95 {:.1f} ms, longest {:.1f} ms\n", name,
                      gaps.size(), 1000 * quantile(gaps, 0.5), 1000 * quantile(gaps, 0.95),
                      1000 * quantile(gaps, 1)));
  };
  show("answers alone            ", without);
  show("answers beside the prompt", with);
  const double gap_ratio = quantile(with, 0.95) / quantile(without, 0.95);
  print(fmt::format(
      "{} answers, a prompt of {} tokens: p95 of the gap {:.2f} x, the prompt {:.2f} x ({:.2f} s "
      "alone, {:.2f} s beside them)\n",
      flags.answers, flags.prompt, gap_ratio, beside_seconds / alone_seconds, alone_seconds,
      beside_seconds));
  write_report(flags, "long_prompt",
               Json::object({{"answers", flags.answers},
                             {"tokens", flags.prompt},
                             {"prompt_share", flags.prompt_share},
                             {"gap_p95_ratio", gap_ratio},
                             {"prompt_ratio", beside_seconds / alone_seconds}}));
}

void first_token(const Flags& flags) {
  constexpr size_t kAnswer = 20;
  Served served(flags);
  std::vector<int32_t> prompt = served.text(1, flags.prompt + flags.question);
  const std::vector<int32_t> question(prompt.end() - static_cast<std::ptrdiff_t>(flags.question),
                                      prompt.end());
  prompt.resize(flags.prompt);
  served.send(served.text(2, flags.prompt), 1).times->wait();  // warms up

  Json times = Json::array();
  const auto show = [&](const std::string& what, double seconds, double anew) {
    print(fmt::format("{:<52}{:>9.3f} s{}\n", what, seconds,
                      anew > 0 ? fmt::format("{:>9.0f} x sooner", anew / seconds) : ""));
    times.push_back(Json::object({{"what", what}, {"seconds", seconds}}));
  };
  print(fmt::format("Time to the first token, {} tokens, then a question of {}:\n", flags.prompt,
                    flags.question));
  const Served::Sent first = served.send(prompt, kAnswer);
  const double anew = first.first();
  show("read anew", anew, 0);
  first.times->wait();

  // The server sees the earlier turn, its answer and the question as one prompt.
  std::vector<double> turns;
  std::vector<int32_t> turn = prompt;
  const Served::Sent keeper = served.send(turn, 1, {}, true);
  keeper.times->wait();
  for (int i = 0; i < 5; ++i) {
    turn.insert(turn.end(), question.begin(), question.end());
    const Served::Sent next = served.send(turn, 1, {}, true);
    turns.push_back(next.first());
    next.times->wait();
    if (next.times->usage().cached_tokens == 0) {
      throw Error(ErrorCode::kInput, "a turn found nothing of the turn before it");
    }
  }
  show("next turn of a conversation (median of 5)", quantile(turns, 0.5), anew);

  const server::DocumentId document = served.scheduler().add_document(prompt);
  std::vector<double> forks;
  served.send(question, 1, document).times->wait();
  for (int i = 0; i < 5; ++i) {
    const Served::Sent fork = served.send(question, 1, document);
    forks.push_back(fork.first());
    fork.times->wait();
  }
  show("question about a document (median of 5)", quantile(forks, 0.5), anew);
  write_report(flags, "first_token", times);
}

void streams(const Flags& flags) {
  const Tokenizer tokenizer(flags.model);
  Json results = Json::array();
  for (const size_t length : flags.lengths) compare_streams(flags, tokenizer, length, results);
  write_report(flags, "streams", results);
}

int run(int argc, char** argv) {
  Flags flags;
  cli::ArgumentParser parser("serving", "Many clients of one model.");
  std::string scenario;
  const std::vector<std::string> scenarios{"streams", "long-prompt", "first-token"};
  parser
      .add("scenario", scenario,
           "streams: clients that come together, beside libllama; long-prompt: what it does to "
           "running answers; first-token: with caches that are there",
           "SCENARIO")
      .choices(scenarios);
  parser.add("-m,--model", flags.model, "GGUF model file", "FILE");
  parser.add("-t,--threads", flags.threads, "threads; 0 is one per processor", "N");
  parser
      .add("--rope-scale", flags.rope_scale,
           "divide positions by this, so that answers fit behind long prompts, on all sides", "X")
      .range(1, 1024);
  parser.add("--budget", flags.budget, "tokens kept per KV head", "N").range(1, 1 << 30);
  parser.add("--streams", flags.streams, "numbers of clients", "N,...").range(1, 64);
  parser.add("--lengths", flags.lengths, "tokens of every prompt", "N,...").range(1, 1 << 30);
  parser.add("--decode", flags.decode, "tokens of every client", "N").range(2, 1 << 20);
  parser
      .add("--sides", flags.sides, "only some of restkv, restkv-full, llama, llama-fa", "NAME,...")
      .choices({"restkv", "restkv-full", "llama", "llama-fa"});
  parser.add("--answers", flags.answers, "long-prompt: answers being written", "N").range(1, 64);
  parser.add("--prompt", flags.prompt, "long-prompt, first-token: tokens of the prompt", "N")
      .range(1, 1 << 30);
  parser.add("--question", flags.question, "first-token: tokens of a question", "N")
      .range(1, 1 << 20);
  parser.add("--prompt-share", flags.prompt_share, "of the time, for prompts", "X")
      .range(0.01, 0.99);
  parser.add("--json", flags.json, "write everything measured as JSON", "FILE");
  parser.add_flag("--job", flags.job, "").hidden();
  parser.set_footer(
      "Example: serving streams -m model.gguf --streams 1,8 --lengths 2000 --budget 512\n"
      "Exit codes: 0 done, 1 input or output failed, 2 wrong options, 130 interrupted.");
  if (const auto text = parser.parse({argv + 1, argv + argc})) {
    print(*text);
    return cli::kSuccess;
  }
  if (flags.job) {
    print(run_streams(std::string(std::istreambuf_iterator<char>(std::cin), {})));
    return cli::kSuccess;
  }
  if (flags.model.empty()) throw Error(ErrorCode::kInvalidArgument, "--model is required");
  if (scenario.empty()) throw Error(ErrorCode::kInvalidArgument, "name a scenario; see --help");
  cli::use_threads(flags.threads);
  cli::catch_interrupts();
  if (!flags.json.empty()) require_writable(flags.json);
  flags.load_before = load_average();
  warn_if_busy(flags.load_before, "serving");
  if (scenario == "streams") streams(flags);
  if (scenario == "long-prompt") long_prompt(flags);
  if (scenario == "first-token") first_token(flags);
  return cli::kSuccess;
}

}  // namespace
}  // namespace restkv::bench

int main(int argc, char** argv) {
  return restkv::cli::run_main("serving", [&] { return restkv::bench::run(argc, argv); });
}
