#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "server/http/router.h"

namespace restkv::server {

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
  Handler on_workers(Handler handler, std::function<void(const std::string&)> error_log);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace restkv::server
