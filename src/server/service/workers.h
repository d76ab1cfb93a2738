#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "server/http/router.h"

namespace restkv::server {

using ErrorLog = std::function<void(const std::string&)>;

/// Threads for what would hold up the network: reading large bodies, templates, tokens of long
/// texts.
class Workers {
 public:
  explicit Workers(size_t threads);
  /// Waits for what was begun; what has not begun is dropped.
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  /// The handler on one of the threads. What it throws is answered: `HttpError` as it is, `Error`
  /// as `http_error` has it; anything else is told to `error_log` and answered with 500.
  Handler on_workers(Handler handler, ErrorLog error_log);

  /// The rest of an answer that had to wait for another thread, which has better things to do than
  /// to make it: on one of these threads, failures as those of handlers. May be called from any
  /// thread, also when these have gone: then the answer is given up.
  using Later = std::function<void(Responder responder, std::function<void(Responder&)> rest)>;
  [[nodiscard]] Later later(ErrorLog error_log);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace restkv::server
