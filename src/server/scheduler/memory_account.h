#pragma once

#include <cstddef>
#include <utility>

namespace restkv::server {

/// Bytes that are promised, against a limit.
class MemoryAccount {
 public:
  explicit MemoryAccount(size_t limit) : limit_(limit) {}
  MemoryAccount(const MemoryAccount&) = delete;
  MemoryAccount& operator=(const MemoryAccount&) = delete;

  [[nodiscard]] size_t limit() const { return limit_; }
  [[nodiscard]] size_t used() const { return used_; }
  [[nodiscard]] size_t free() const { return limit_ - (used_ < limit_ ? used_ : limit_); }

  /// An amount that counts for as long as this lives. The account must outlive it.
  class Share {
   public:
    Share() = default;
    Share(MemoryAccount& account, size_t bytes) : account_(&account) { resize(bytes); }
    ~Share() { resize(0); }
    Share(Share&& other) noexcept
        : account_(other.account_), bytes_(std::exchange(other.bytes_, 0)) {}
    Share& operator=(Share&& other) noexcept {
      resize(0);
      account_ = other.account_;
      bytes_ = std::exchange(other.bytes_, 0);
      return *this;
    }

    [[nodiscard]] size_t bytes() const { return bytes_; }
    void resize(size_t bytes) {
      if (account_ == nullptr) return;
      account_->used_ = account_->used_ - bytes_ + bytes;
      bytes_ = bytes;
    }

   private:
    MemoryAccount* account_ = nullptr;
    size_t bytes_ = 0;
  };

 private:
  size_t limit_;
  size_t used_ = 0;
};

}  // namespace restkv::server
