#include "server/service/answer_ids.h"

#include <chrono>
#include <cstdint>
#include <random>

#include "server/openai/answer_parts.h"

namespace restkv::server {
namespace {

constexpr size_t kMostRemembered = 4096;

uint64_t random_bits() {
  std::random_device device;  // of the system
  return (uint64_t{device()} << 32) | device();
}

}  // namespace

int64_t unix_seconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string AnswerIds::make(std::string_view prefix) {
  return answer_id(prefix, random_bits(), random_bits());
}

uint32_t AnswerIds::random_seed() { return static_cast<uint32_t>(random_bits() >> 33); }

void AnswerIds::remember(const std::string& id, RequestId request) {
  const std::scoped_lock lock(mutex_);
  if (!requests_.emplace(id, request).second) return;
  oldest_first_.push_back(id);
  if (oldest_first_.size() <= kMostRemembered) return;
  requests_.erase(oldest_first_.front());
  oldest_first_.pop_front();
}

std::optional<RequestId> AnswerIds::find(const std::string& id) const {
  const std::scoped_lock lock(mutex_);
  const auto found = requests_.find(id);
  return found == requests_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace restkv::server
