#include "base/sha256.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include "restkv/error.h"

namespace restkv {
namespace {

void require(bool fine) {
  if (fine) return;
  throw Error(ErrorCode::kUnsupported, "the system's cryptography library offers no SHA-256");
}

void add_file(const std::filesystem::path& path, Sha256& sha) {
  const auto fail = [&](const std::string& reason) -> Error {
    return {ErrorCode::kInput, fmt::format("cannot read {}: {}; check the path and its permissions",
                                           path.string(), reason)};
  };
  std::ifstream file(path, std::ios::binary);
  if (!file) throw fail(std::strerror(errno));
  std::vector<char> block(1 << 20);
  while (file) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    sha.update({block.data(), static_cast<size_t>(file.gcount())});
  }
  if (!file.eof()) throw fail(std::filesystem::is_directory(path) ? "it is a folder" : "I/O error");
}

}  // namespace

struct Sha256::State {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> digest{EVP_MD_CTX_new(), EVP_MD_CTX_free};
};

Sha256::Sha256() : state_(std::make_unique<State>()) { restart(); }

Sha256::~Sha256() = default;

void Sha256::update(std::string_view bytes) {
  require(EVP_DigestUpdate(state_->digest.get(), bytes.data(), bytes.size()) == 1);
}

void Sha256::restart() {
  require(state_->digest != nullptr &&
          EVP_DigestInit_ex(state_->digest.get(), EVP_sha256(), nullptr) == 1);
}

std::string Sha256::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
  unsigned int size = 0;
  require(EVP_DigestFinal_ex(state_->digest.get(), bytes.data(), &size) == 1);
  std::string text;
  for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", bytes[i]);
  return text;
}

std::string sha256_of_file(const std::filesystem::path& path) {
  Sha256 sha;
  add_file(path, sha);
  return sha.finish();
}

std::string sha256_of_files(std::span<const std::string> paths) {
  Sha256 sha;
  for (const std::string& path : paths) add_file(path, sha);
  return sha.finish();
}

}  // namespace restkv
