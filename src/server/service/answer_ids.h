#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "server/scheduler/request.h"

namespace restkv::server {

/// Seconds since 1970, now.
int64_t unix_seconds();

/// Ids of answers that clients see, and whose they are. May be used from several threads.
class AnswerIds {
 public:
  /// "chatcmpl-..." that nobody can guess.
  [[nodiscard]] static std::string make(std::string_view prefix);
  /// A seed for a client that asks for none.
  [[nodiscard]] static uint32_t random_seed();

  /// Remembers which request an answer came from; the oldest of many thousands are forgotten.
  void remember(const std::string& id, RequestId request);
  [[nodiscard]] std::optional<RequestId> find(const std::string& id) const;

 private:
  mutable std::mutex mutex_;
  std::unordered_map<std::string, RequestId> requests_;
  std::list<std::string> oldest_first_;
};

}  // namespace restkv::server
