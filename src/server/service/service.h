#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "restkv/model.h"
#include "restkv/session.h"
#include "restkv/threads.h"
#include "restkv/tokenizer.h"
#include "server/openai/chat_format.h"
#include "server/openai/limits.h"
#include "server/openai/listings.h"
#include "server/scheduler/scheduler.h"
#include "server/service/answer_ids.h"

namespace restkv::server {

struct ServiceOptions {
  std::string model_path;
  std::string alias;  ///< What clients call the model; empty: the file's name.
  ModelOptions model;
  SchedulerOptions scheduler;
  /// How a document is compressed unless its upload says otherwise: no question is known yet.
  AskedSession document_session;
  bool fixed_seed = false;  ///< Answers without a seed of their own take that of the limits.
  RequestLimits limits;     ///< `vocabulary`, `context` and `session` are filled in.
  std::string version;
  /// Told what clients must not read.
  std::function<void(const std::string&)> error_log;
};

/// A model that is being served, and all that the routes need for it.
class Service {
 public:
  /// Throws `Error` as `Model`, `Tokenizer` and `Scheduler` do.
  Service(const ServiceOptions& given, std::shared_ptr<ThreadPool> threads);

  /// Throws `HttpError` (404) unless the client names this model, or none.
  void require_model(const std::string& name) const;
  /// Throws `HttpError` (400) if the file has no chat template.
  [[nodiscard]] const ChatFormat& chat() const;
  [[nodiscard]] const ChatFormat* chat_or_null() const { return chat_ ? &*chat_ : nullptr; }
  /// How the cache of a request is to be made that asks for this, or for nothing.
  [[nodiscard]] const AskedSession& session_of(const std::optional<AskedSession>& asked) const;

  ServiceOptions options;
  Model model;
  Tokenizer tokenizer;
  ModelCard card;
  ServerProperties properties;
  AnswerIds ids;

 private:
  std::optional<ChatFormat> chat_;
  std::string no_chat_;  ///< Why there is none.

 public:
  /// Last, so that its thread ends before what it works with.
  Scheduler scheduler;
};

}  // namespace restkv::server
