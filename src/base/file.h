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

/// A file that appears at `path` whole or not at all. Bytes go to a temporary file in the same
/// folder, "restkv-" with a random number and ".part", which `commit` renames. An existing file
/// keeps its permissions and must be writable. A symbolic link keeps its target, even a missing
/// one. Devices, pipes and the target of standard output or error (/dev/stdout) are written
/// directly. A writer locks its temporary file; unlocked ones of killed processes are removed by
/// the next writer. `commit` waits until the bytes are on the disk, so a crash leaves either the
/// old file or the new one. Every failure throws `Error` (kIo) naming the path, the reason and a
/// remedy.
class AtomicFile {
 public:
  /// `expected_bytes`: the size that an error message about a full disk names; 0: unknown.
  AtomicFile(std::string path, size_t expected_bytes);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  /// Without `commit`, the old file is untouched and no temporary file remains.
  ~AtomicFile();

  void write(std::string_view bytes);
  void commit();

 private:
  [[noreturn]] void fail(int error) const;
  /// Opens the temporary file that will replace `there`, if that exists.
  Descriptor open_temporary(const std::optional<struct stat>& there);

  std::string path_;
  size_t expected_bytes_;
  std::string target_;     // `path_`, or the target of a symbolic link
  std::string temporary_;  // empty where the file is written directly
  OpenFile file_;
};

/// Writes `content` to `path` as an `AtomicFile`: a reader sees the old file or the new one, never
/// half of it.
void write_file_atomically(const std::string& path, std::string_view content);

/// Throws the errors of writing `path` as an `AtomicFile` that can be known in advance; changes
/// nothing.
void require_writable(const std::string& path);
/// The same for a folder and for files to be written there, named within it. The folder and its
/// parents may be missing.
void require_writable_folder(const std::string& path,
                             std::initializer_list<const char*> files = {});
/// Makes a folder and its missing parents.
void make_folder(const std::string& path);

/// Whether `path` is the target of standard output: /dev/stdout, or the file it is redirected to.
bool is_standard_output(const std::string& path);

/// Whether both paths name one file, also through links. Missing files are compared by path.
bool same_file(const std::string& a, const std::string& b);

/// The first `count` bytes of a regular file, or all if it has fewer; empty if it cannot be read.
std::string first_bytes(const std::string& path, size_t count);

/// A file mapped into memory for reading. Moving it does not move the bytes.
class MappedFile {
 public:
  /// `what` names the expected content in messages: "model". Throws `Error` (kInput) naming the
  /// path and the reason if the file cannot be opened, is no regular file, or is empty.
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

/// The bytes of the file at `path`, at most 4 GiB, because /dev/zero has no end. Throws `Error`
/// (kInput) naming the path and the reason.
std::string read_file(const std::string& path);
/// The same for an open descriptor, called `name` in messages. Waits for data if it is
/// non-blocking.
std::string read_to_end(int fd, std::string_view name);

}  // namespace restkv
