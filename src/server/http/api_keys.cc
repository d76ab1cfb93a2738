#include "server/http/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>

#include "base/text.h"
#include "restkv/error.h"

namespace restkv::server {

ApiKeys::ApiKeys(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    const bool fine = !key.empty() && trimmed(key) == key &&
                      std::ranges::all_of(key, [](char c) { return c >= 0x20 && c != 0x7F; });
    if (!fine) {
      throw Error(ErrorCode::kInvalidArgument,
                  "an API key is empty, has white space around it, or characters that are not "
                  "printable ASCII; clients could not send it");
    }
    hashes_.push_back(hash(key));
  }
}

ApiKeys::Hash ApiKeys::hash(std::string_view key) {
  Hash result{};
  if (EVP_Digest(key.data(), key.size(), result.data(), nullptr, EVP_sha256(), nullptr) != 1) {
    throw Error(ErrorCode::kUnsupported, "the system's cryptography library offers no SHA-256");
  }
  return result;
}

bool ApiKeys::has(std::string_view key) const {
  const Hash wanted = hash(key);
  bool found = false;
  for (const Hash& known : hashes_) {
    found |= CRYPTO_memcmp(known.data(), wanted.data(), wanted.size()) == 0;
  }
  return found;
}

bool ApiKeys::allow(const Headers& headers) const {
  constexpr std::string_view kBearer = "Bearer ";
  const std::string_view authorization = headers.value("Authorization");
  const bool bearer = same_but_case(authorization.substr(0, kBearer.size()), kBearer) &&
                      has(trimmed(authorization.substr(kBearer.size())));
  return has(headers.value("x-api-key")) || bearer;
}

}  // namespace restkv::server
