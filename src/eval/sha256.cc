#include "eval/sha256.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <vector>

#include "restkv/error.h"

namespace restkv::eval {

std::string sha256_of_file(const std::filesystem::path& path) {
  const auto fail = [&](const std::string& reason) -> Error {
    return {ErrorCode::kInput, fmt::format("cannot read {}: {}; check the path and its permissions",
                                           path.string(), reason)};
  };
  std::ifstream file(path, std::ios::binary);
  if (!file) throw fail(std::strerror(errno));

  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> digest(EVP_MD_CTX_new(),
                                                                       EVP_MD_CTX_free);
  bool fine = digest && EVP_DigestInit_ex(digest.get(), EVP_sha256(), nullptr) == 1;
  std::vector<char> block(1 << 20);
  while (fine && file) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    fine = EVP_DigestUpdate(digest.get(), block.data(), static_cast<size_t>(file.gcount())) == 1;
  }
  if (!file.eof()) throw fail(std::filesystem::is_directory(path) ? "it is a folder" : "I/O error");

  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
  unsigned int size = 0;
  if (!fine || EVP_DigestFinal_ex(digest.get(), bytes.data(), &size) != 1) {
    throw Error(ErrorCode::kUnsupported, "the system's cryptography library offers no SHA-256");
  }
  std::string text;
  for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

}  // namespace restkv::eval
