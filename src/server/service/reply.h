#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "server/http/responder.h"
#include "server/scheduler/scheduler.h"
#include "server/service/answer_writer.h"

namespace restkv::server {

/// The answer to one client, of one or more requests of the scheduler (a completion has one for
/// each prompt): streamed, or collected and sent at the end. A client that goes away cancels them.
class Reply : public std::enable_shared_from_this<Reply> {
 public:
  Reply(Scheduler& scheduler, Responder responder, std::unique_ptr<AnswerWriter> writer,
        bool stream, std::function<void(const std::string&)> error_log);

  /// Submits all. `n` of each is the number of its choices; the choices of later requests follow
  /// those of earlier ones. Returns the id of the first. Throws what the scheduler refuses, all or
  /// nothing.
  RequestId submit(std::vector<Request> requests);

 private:
  class PromptListener;
  void started(const Usage& usage);
  void scored(size_t prompt, std::span<const TokenLogprob> logprobs);
  /// False: nobody reads any more.
  bool wrote(size_t choice, const Piece& piece);
  void finished(size_t choice, const GenerationResult& result, const Usage& usage);
  void failed(const Error& error);
  void closed();
  void cancel_all();
  /// With the lock held.
  void send(const std::string& events);

  Scheduler& scheduler_;
  Responder responder_;
  std::unique_ptr<AnswerWriter> writer_;
  bool stream_;
  std::function<void(const std::string&)> error_log_;

  std::mutex mutex_;
  bool streaming_ = false;  ///< The header is out.
  bool over_ = false;       ///< Answered, or refused, or given up.
  size_t open_ = 0;         ///< Requests that have not been closed.
  AnswerTotals totals_;
  std::mutex ids_mutex_;  ///< Taken by whoever finds that the client has gone.
  std::vector<RequestId> ids_;
};

}  // namespace restkv::server
