#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace restkv {

/// SHA-256 of bytes that come piece by piece. Throws `Error` (kUnsupported) if the system's
/// cryptography library has none.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(std::string_view bytes);
  /// Forgets all bytes.
  void restart();
  /// 64 lower-case hex digits. Nothing can be added then.
  [[nodiscard]] std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Of the bytes of a file. Throws `Error` (kInput) naming the path and the reason.
std::string sha256_of_file(const std::filesystem::path& path);
/// Of the files one behind the other, as `cat` joins them.
std::string sha256_of_files(std::span<const std::string> paths);

}  // namespace restkv
