// What a long prompt does to answers that are being written, and they to it:
//   serving_bench MODEL [--streams N] [--prompt N] [--share X] [--budget N]
// Prints gaps between the tokens of the answers without and with the prompt, and the prompt's time
// alone and beside them.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/stopwatch.h"
#include "restkv/model.h"
#include "restkv/tokenizer.h"
#include "server/scheduler/scheduler.h"

namespace restkv::server {
namespace {

std::vector<int32_t> text(size_t tokens, size_t seed) {
  std::vector<int32_t> result(tokens);
  for (size_t i = 0; i < tokens; ++i) {
    result[i] = static_cast<int32_t>(1000 + (i * 7919 + seed * 104729) % 20000);
  }
  return result;
}

/// Notes when tokens come, and when all is over.
class Timer : public Listener {
 public:
  void started(const Usage&) override {
    const std::scoped_lock lock(mutex_);
    started_ = watch_.seconds();
  }
  void wrote(const Piece& piece) override {
    const std::scoped_lock lock(mutex_);
    if (!piece.tokens.empty()) times_.push_back(watch_.seconds());
    changed_.notify_all();
  }
  void finished(size_t, const GenerationResult&, const Usage& usage) override {
    prompt_seconds_ = usage.prompt_seconds;
  }
  void failed(size_t, const Error& error) override {
    // Answers without an end are cancelled.
    if (error.code() != ErrorCode::kInterrupted) fmt::print(stderr, "{}\n", error.what());
  }
  void closed() override {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

  void wait_for(size_t tokens) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || times_.size() >= tokens; });
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_; });
  }
  [[nodiscard]] double prompt_seconds() const { return prompt_seconds_; }
  /// Between tokens that came in this time.
  void gaps(double from, double to, std::vector<double>& all) {
    const std::scoped_lock lock(mutex_);
    for (size_t i = 1; i < times_.size(); ++i) {
      if (times_[i - 1] >= from && times_[i] <= to) all.push_back(times_[i] - times_[i - 1]);
    }
  }
  static double now() { return watch_.seconds(); }

 private:
  inline static const Stopwatch watch_;
  std::mutex mutex_;
  std::condition_variable changed_;
  double started_ = 0, prompt_seconds_ = 0;
  std::vector<double> times_;
  bool closed_ = false;
};

struct Sent {
  RequestId id;
  std::shared_ptr<Timer> timer;
};

Sent send(Scheduler& scheduler, const Tokenizer& tokenizer, std::vector<int32_t> prompt,
          size_t tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.generation.max_tokens = tokens;
  request.reuse = false;
  for (const int32_t end : tokenizer.end_tokens()) {
    request.generation.logit_bias.emplace_back(end, -std::numeric_limits<float>::infinity());
  }
  auto timer = std::make_shared<Timer>();
  request.listener = timer;
  return {scheduler.submit(std::move(request)), timer};
}

void print_gaps(const char* name, std::vector<double> gaps) {
  std::ranges::sort(gaps);
  const auto at = [&](double part) {
    return gaps.empty()
               ? 0
               : 1000 * gaps[static_cast<size_t>(part * static_cast<double>(gaps.size() - 1))];
  };
  fmt::print("{}: {} gaps, p50 {:.1f} ms, p95 {:.1f} ms, longest {:.1f} ms\n", name, gaps.size(),
             at(0.5), at(0.95), at(1));
}

int run(int argc, char** argv) {
  std::string path;
  size_t streams = 8;
  size_t prompt = 8000;
  SchedulerOptions options;
  options.session.compression.budget = 1024;
  options.session.interval = 64;
  options.max_kept = 0;
  CLI::App app("What a long prompt does to answers that are being written");
  app.add_option("model", path)->required();
  app.add_option("--streams", streams, "answers that are written");
  app.add_option("--prompt", prompt, "tokens of the long prompt");
  app.add_option("--share", options.prompt_share, "of the time, for prompts");
  app.add_option("--budget", options.session.compression.budget, "tokens kept per KV head");
  CLI11_PARSE(app, argc, argv);

  const Model model(path);
  const Tokenizer tokenizer(path);
  options.max_answers = streams + 1;
  Scheduler scheduler(model, tokenizer, options);
  const Sent warm_up = send(scheduler, tokenizer, text(prompt, 0), 1);
  warm_up.timer->wait();
  const Sent alone = send(scheduler, tokenizer, text(prompt, 1), 1);
  alone.timer->wait();

  std::vector<Sent> answers;
  for (size_t i = 0; i < streams; ++i) {
    answers.push_back(send(scheduler, tokenizer, text(200, i + 5), 100000));
  }
  for (const Sent& answer : answers) answer.timer->wait_for(2);
  const double before = Timer::now();
  answers[0].timer->wait_for(100);
  const double begin = Timer::now();
  const Sent beside = send(scheduler, tokenizer, text(prompt, 2), 1);
  beside.timer->wait();
  const double end = Timer::now();
  std::vector<double> without;
  std::vector<double> with;
  for (const Sent& answer : answers) {
    answer.timer->gaps(before, begin, without);
    answer.timer->gaps(begin, end, with);
    scheduler.cancel(answer.id);
  }
  print_gaps("answers without the prompt", without);
  print_gaps("answers beside the prompt ", with);
  fmt::print("prompt of {} tokens: alone {:.2f} s, beside {} answers {:.2f} s ({:.2f} x)\n", prompt,
             alone.timer->prompt_seconds(), streams, beside.timer->prompt_seconds(),
             beside.timer->prompt_seconds() / alone.timer->prompt_seconds());
  return 0;
}

}  // namespace
}  // namespace restkv::server

int main(int argc, char** argv) {
  try {
    return restkv::server::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
