#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/stopwatch.h"
#include "restkv/error.h"
#include "server/scheduler/request.h"

namespace restkv::bench {

/// Notes when the tokens of one request come, on a clock that all share.
class TokenTimes : public server::Listener {
 public:
  explicit TokenTimes(const Stopwatch& clock) : clock_(clock) {}

  void wrote(const server::Piece& piece) override {
    const std::scoped_lock lock(mutex_);
    times_.insert(times_.end(), piece.tokens.size(), clock_.seconds());
    changed_.notify_all();
  }
  void finished(size_t, const GenerationResult&, const server::Usage& usage) override {
    const std::scoped_lock lock(mutex_);
    usage_ = usage;
  }
  void failed(size_t, const Error& error) override {
    // Answers without an end are cancelled.
    const std::scoped_lock lock(mutex_);
    if (error.code() != ErrorCode::kInterrupted) failure_ = error.what();
  }
  void closed() override {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

  /// Until there are so many tokens, or no more come. Throws `Error` if the request failed.
  void wait_for(size_t tokens) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_ || times_.size() >= tokens; });
    if (!failure_.empty()) throw Error(ErrorCode::kInput, failure_);
  }
  /// Until it is over.
  void wait() { wait_for(static_cast<size_t>(-1)); }

  [[nodiscard]] std::vector<double> times() {
    const std::scoped_lock lock(mutex_);
    return times_;
  }
  [[nodiscard]] server::Usage usage() {
    const std::scoped_lock lock(mutex_);
    return usage_;
  }

 private:
  const Stopwatch& clock_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<double> times_;
  server::Usage usage_;
  std::string failure_;
  bool closed_ = false;
};

}  // namespace restkv::bench
