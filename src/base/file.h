#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdio>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/descriptor.h"

namespace restkv {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using OpenFile = std::unique_ptr<std::FILE, CloseFile>;

/// A file that appears at `path` whole or not at all: what is written goes to a temporary file in
/// the same folder, "restkv-" with a random number and ".part", which `commit` renames. A file that
/// is there keeps its permissions and must be writable; a symbolic link keeps pointing where it
/// pointed, also to a file that does not exist yet; a device or pipe is written directly, and so is
/// whatever standard output or error goes to (/dev/stdout). Temporary files of processes that were
/// killed are removed by the next one that writes to the folder: who writes one holds a lock on it.
/// `commit` waits until the bytes are on the disk, so that a crash leaves the old file or the new
/// one. Every failure throws Error(kIo) naming the path, the reason and a remedy.
class AtomicFile {
 public:
  /// `expected_bytes`: what an error message names as the room needed; 0: not known.
  AtomicFile(std::string path, size_t expected_bytes);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  /// Without `commit`, the old file is untouched and no temporary file remains.
  ~AtomicFile();

  void write(std::string_view bytes);
  void commit();

 private:
  [[noreturn]] void fail(int error) const;
  /// Of a file that takes the place of `there`, if anything is.
  Descriptor open_temporary(const std::optional<struct stat>& there);

  std::string path_;
  size_t expected_bytes_;
  std::string target_;     // `path_`, or what a symbolic link there points to
  std::string temporary_;  // empty where the file is written directly
  OpenFile file_;
};

/// Writes `content` to `path` as an `AtomicFile`: a reader sees the old file or the new one, never
/// half of it.
void write_file_atomically(const std::string& path, std::string_view content);

/// Throws what writing `path` as an `AtomicFile` would throw, as far as it can be known before
/// there is anything to write; changes nothing.
void require_writable(const std::string& path);
/// The same for a folder and what will be written there, named within it. The folder may have to be
/// made first, with the folders above it.
void require_writable_folder(const std::string& path,
                             std::initializer_list<const char*> files = {});
/// Makes that folder, and those above it that are missing.
void make_folder(const std::string& path);

/// Whether `path` names what standard output goes to: /dev/stdout, the file it is redirected to.
bool is_standard_output(const std::string& path);

/// Whether both name one file, also through links; files that do not exist are told apart by path.
bool same_file(const std::string& a, const std::string& b);

/// The first `count` bytes of a regular file, or all if it has fewer; nothing if it cannot be read.
std::string first_bytes(const std::string& path, size_t count);

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

/// The bytes of the file at `path`, not more than 4 GiB: /dev/zero has no end. Throws Error(kInput)
/// naming the path and the reason.
std::string read_file(const std::string& path);
/// The same for what is open already; `name` it, for messages. Waits where it is non-blocking.
std::string read_to_end(int fd, std::string_view name);

}  // namespace restkv
