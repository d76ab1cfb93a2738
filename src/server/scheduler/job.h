#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "restkv/generate.h"
#include "restkv/session.h"
#include "restkv/views.h"
#include "server/scheduler/memory_account.h"
#include "server/scheduler/request.h"

namespace restkv::server {

using Clock = std::chrono::steady_clock;

inline double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

/// Whatever was thrown, as an `Error`.
Error as_error(const std::exception_ptr& thrown);

class Job;

/// One answer of a request, while it is written.
class Answer : public TokenSource {
 public:
  /// Throws as `Generation` does.
  Answer(Job& job, size_t index, Session session, const Tokenizer& tokenizer);

  /// Never throws: who writes beside it must not suffer. None also after a failure.
  std::optional<int32_t> next(std::span<const float> logits) override;
  /// The token was appended to its session, or this is why not.
  void decoded(int32_t token, std::exception_ptr failure);

  [[nodiscard]] Job& job() const { return job_; }
  [[nodiscard]] size_t index() const { return index_; }
  [[nodiscard]] Session& session() { return session_; }
  [[nodiscard]] const Session& session() const { return session_; }
  /// All that the session has read.
  [[nodiscard]] std::vector<int32_t> read() const;
  [[nodiscard]] const GenerationResult& result() const { return generation_->result(); }
  [[nodiscard]] const std::exception_ptr& failure() const { return failure_; }

 private:
  /// False: the listener wants no more.
  bool hand_out(std::string_view text);

  Job& job_;
  size_t index_;
  Session session_;
  std::unique_ptr<TokenConstraint> constraint_;
  std::optional<Generation> generation_;
  std::vector<int32_t> appended_;  ///< To the session, after the prompt.
  size_t handed_out_ = 0;          ///< Tokens that the listener has heard of.
  std::exception_ptr failure_;
};

/// A request from its acceptance to its end.
class Job {
 public:
  explicit Job(Request asked) : request(std::move(asked)) {}

  /// Calls the listener. What it throws cancels the request and is the last that it hears.
  template <class Call>
  void tell(const Call& call) {
    if (request.listener == nullptr || deaf) return;
    try {
      call(*request.listener);
    } catch (...) {
      deaf = true;
      cancelled = true;
    }
  }
  /// Of the prompt's tokens after those from `first` on, whose logits [rows, V] these are.
  void score(size_t first, Matrix<const float> logits);
  /// An answer that has not begun, or was being written, fails.
  void fail_answer(size_t index, const Error& why);
  /// All that have not ended.
  void fail(const Error& why);
  [[nodiscard]] bool reads_document() const { return !document.empty(); }

  RequestId id = 0;  ///< Given when it is accepted.
  Request request;
  DocumentId document;  ///< That it is to become; empty: none.
  std::string label;    ///< Of this document.
  SessionOptions options;
  std::string key;  ///< `session_key` of these.
  const Clock::time_point submitted = Clock::now();
  size_t expected = 0;  ///< Tokens that will probably have to be read.
  bool cancelled = false;
  bool loading = false;        ///< Waits for a sequence from the disk.
  bool asked_disk = false;     ///< There is no need to look there once more.
  bool deaf = false;           ///< The listener has thrown.
  std::optional<Error> error;  ///< The first one of its answers.

  // Once it is begun:
  std::vector<int32_t> tokens;  ///< All of the prompt, those of a document first.
  Clock::time_point begun;
  Usage usage;                   ///< What all answers share.
  double compressed_before = 0;  ///< Seconds, of the sequence that it begins with.
  size_t sequence_bytes = 0;     ///< Promised to each of its sequences.
  MemoryAccount::Share memory;
  std::optional<Session> session;  ///< While the prompt is read.
  std::optional<Session::Prompt> prompt;
  std::vector<TokenLogprob> prompt_logprobs;  ///< If wanted, as far as they are known.
  double computed = 0;                        ///< Seconds, without pauses.
  double told = 0;                            ///< Share of the prompt that the listener knows of.

  std::vector<bool> ended;  ///< Of each answer.
  size_t writing = 0;       ///< Answers in the batch.
};

}  // namespace restkv::server
