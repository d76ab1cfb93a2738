#pragma once

#include <array>
#include <string>
#include <vector>

#include "server/http/message.h"

namespace restkv::server {

/// The keys of those who may call. Holds hashes only; a comparison takes the same time whatever
/// part of a key is right and whichever key it is.
class ApiKeys {
 public:
  /// Throws `Error` (kInvalidArgument) for an empty key, and for one that no header field can hold.
  explicit ApiKeys(const std::vector<std::string>& keys);
  [[nodiscard]] bool needed() const { return !hashes_.empty(); }
  /// Whether the header has one of them: `Authorization: Bearer KEY` or `x-api-key: KEY`.
  [[nodiscard]] bool allow(const Headers& headers) const;

 private:
  using Hash = std::array<unsigned char, 32>;
  [[nodiscard]] static Hash hash(std::string_view key);
  [[nodiscard]] bool has(std::string_view key) const;

  std::vector<Hash> hashes_;
};

}  // namespace restkv::server
