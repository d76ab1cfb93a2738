#pragma once

#include <cstddef>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

namespace restkv {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using OpenFile = std::unique_ptr<std::FILE, CloseFile>;

/// A file that appears at `path` whole or not at all: what is written goes to a temporary file in
/// the same folder, which `commit` closes and renames. A symbolic link keeps pointing where it
/// pointed; a device or pipe (/dev/stdout) is written directly.
/// `commit` waits until the bytes are on the disk, so that a crash leaves the old file or the new
/// one. Every failure throws Error(kIo) naming the path and the reason.
class AtomicFile {
 public:
  /// `expected_bytes`: what an error message names as the room needed.
  AtomicFile(std::string path, size_t expected_bytes);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  /// Without `commit`, the old file is untouched and no temporary file remains.
  ~AtomicFile();

  void write(std::string_view bytes);
  void commit();

 private:
  [[noreturn]] void fail(int error) const;

  std::string path_;
  size_t expected_bytes_;
  std::string target_;     // `path_`, or what a symbolic link there points to
  std::string temporary_;  // empty where `target_` is written directly
  OpenFile file_;
};

/// Writes `content` to `path` as an `AtomicFile`: a reader sees the old file or the new one, never
/// half of it.
void write_file_atomically(const std::string& path, std::string_view content);

/// A file mapped into memory to be read. Movable; the bytes stay where they are.
class MappedFile {
 public:
  /// `what` the file is expected to be, for messages: "model". Throws Error(kInput) naming the path
  /// and the reason if it cannot be opened, is no regular file, or is empty.
  MappedFile(const std::string& path, std::string_view what);

  [[nodiscard]] std::string_view bytes() const {
    return {static_cast<const char*>(map_.get()), map_.get_deleter().bytes};
  }

 private:
  struct Unmap {
    size_t bytes;
    void operator()(void* map) const;
  };
  std::unique_ptr<void, Unmap> map_{nullptr, Unmap{0}};
};

/// The bytes of the file at `path`. Throws Error(kInput) naming the path and the reason.
std::string read_file(const std::string& path);

}  // namespace restkv
