#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>

namespace restkv::server {

/// Bytes of one body among those of all bodies that a server holds, counted as long as this lives:
/// while it is received, waits for a thread, and is read there. Different shares may be used from
/// different threads, and outlive the server.
class BodyShare {
 public:
  using Total = std::shared_ptr<std::atomic<size_t>>;

  explicit BodyShare(Total total) : total_(std::move(total)) {}
  ~BodyShare() { resize(0); }
  BodyShare(const BodyShare&) = delete;
  BodyShare& operator=(const BodyShare&) = delete;

  [[nodiscard]] size_t bytes() const { return bytes_; }
  /// Returns the new total.
  size_t resize(size_t bytes) {
    // Unsigned numbers wrap: this is right for smaller ones, too.
    const size_t more = bytes - std::exchange(bytes_, bytes);
    return total_->fetch_add(more) + more;
  }

 private:
  Total total_;
  size_t bytes_ = 0;
};

}  // namespace restkv::server
