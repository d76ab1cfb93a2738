#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "restkv/model.h"
#include "restkv/tokenizer.h"
#include "server/scheduler/scheduler.h"
#include "support/tiny_model.h"

namespace restkv::server::testing {

/// What one answer came to.
struct Heard {
  std::string text;             ///< Of all pieces.
  std::vector<int32_t> tokens;  ///< The same.
  std::vector<TokenLogprob> logprobs;
  std::optional<GenerationResult> result;
  std::optional<Usage> usage;
  std::optional<Error> error;
};

/// Remembers everything it hears, and checks the order.
class Recorder : public Listener {
 public:
  void started(const Usage& usage) override;
  void prompt_progress(double done) override;
  void prompt_scored(std::span<const TokenLogprob> logprobs) override;
  void wrote(const Piece& piece) override;
  void finished(size_t answer, const GenerationResult& result, const Usage& usage) override;
  void failed(size_t answer, const Error& error) override;
  void closed() override;

  /// Until the request is over; fails the test after a minute.
  void wait();
  /// Until it is over or something has been written.
  void wait_for_text();
  [[nodiscard]] bool is_closed();
  /// After `wait`.
  [[nodiscard]] const Heard& answer(size_t index = 0) { return answers_[index]; }
  [[nodiscard]] const std::map<size_t, Heard>& answers() const { return answers_; }
  [[nodiscard]] const std::optional<Usage>& start() const { return start_; }
  [[nodiscard]] const std::vector<double>& progress() const { return progress_; }

  [[nodiscard]] const std::optional<std::vector<TokenLogprob>>& scored() const { return scored_; }

  /// Called on the engine thread by `wrote`, before it remembers.
  std::function<void(const Piece&)> on_wrote;
  std::function<void()> on_started, on_closed;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<size_t, Heard> answers_;
  std::optional<Usage> start_;
  std::vector<double> progress_;
  std::optional<std::vector<TokenLogprob>> scored_;
  bool closed_ = false;
};

/// A tiny model with a tokenizer, and requests for it.
class SchedulerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();

  static const Model& model() { return *model_; }
  static const Tokenizer& tokenizer() { return *tokenizer_; }

  /// Some tokens that mean nothing.
  static std::vector<int32_t> text(size_t tokens, size_t seed);
  static SessionOptions session(const std::string& method, int budget);
  /// Greedy and without an end.
  static Request request(std::vector<int32_t> prompt, size_t max_tokens);

  struct Sent {
    RequestId id = 0;
    std::shared_ptr<Recorder> recorder;
  };
  static Sent send(Scheduler& scheduler, Request request);

  /// What the library alone makes of a request with one answer, after `before`.
  static GenerationResult expected(const Request& request, const SessionOptions& options);

 private:
  static std::unique_ptr<restkv::testing::TemporaryFolder> folder_;
  static std::unique_ptr<Model> model_;
  static std::unique_ptr<Tokenizer> tokenizer_;
};

}  // namespace restkv::server::testing
