#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "restkv/error.h"

namespace restkv {
namespace {

namespace fs = std::filesystem;

std::string reason(int error) { return std::generic_category().message(error); }

/// Closes a file descriptor at the end of the scope; a mapping outlives it.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) close(fd);
  }
};

}  // namespace

AtomicFile::AtomicFile(std::string path, size_t expected_bytes)
    : path_(std::move(path)), expected_bytes_(expected_bytes), target_(path_) {
  std::error_code ignored;
  if (fs::is_symlink(target_, ignored)) {
    const fs::path pointed_to = fs::weakly_canonical(target_, ignored);
    if (!pointed_to.empty()) target_ = pointed_to;
  }
  // Renaming over /dev/full or a named pipe would replace the device by a regular file.
  if (!fs::exists(target_, ignored) || fs::is_regular_file(target_, ignored)) {
    temporary_ = fmt::format("{}.{}.part", target_, ::getpid());
  }
  file_.reset(std::fopen((temporary_.empty() ? target_ : temporary_).c_str(), "wb"));
  if (!file_) fail(errno);
}

AtomicFile::~AtomicFile() {
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove(temporary_, ignored);
}

void AtomicFile::write(std::string_view bytes) {
  if (bytes.empty()) return;  // whose data may be null
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) fail(errno);
}

void AtomicFile::commit() {
  // Buffered bytes may only meet a full disk when they are flushed or when the file is closed.
  if (std::fflush(file_.get()) != 0 || std::ferror(file_.get()) != 0) fail(errno);
  if (!temporary_.empty() && ::fsync(::fileno(file_.get())) != 0) fail(errno);
  if (std::fclose(file_.release()) != 0) fail(errno);
  if (temporary_.empty()) return;
  if (std::rename(temporary_.c_str(), target_.c_str()) != 0) fail(errno);
  temporary_.clear();
  // The new name is on the disk when its folder is; not every file system lets one ask for that.
  const fs::path folder = fs::path(target_).parent_path();
  const Descriptor directory{
      ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (directory.fd >= 0) ::fsync(directory.fd);
}

void AtomicFile::fail(int error) const {
  throw Error(ErrorCode::kIo,
              fmt::format("cannot write {}: {}; choose a folder that exists, is writable and has "
                          "{} bytes free",
                          path_, reason(error), expected_bytes_));
}

void write_file_atomically(const std::string& path, std::string_view content) {
  AtomicFile file(path, content.size());
  file.write(content);
  file.commit();
}

MappedFile::MappedFile(const std::string& path, std::string_view what) {
  const auto fail = [&](const std::string& why) {
    throw Error(ErrorCode::kInput, fmt::format("{}: {}", path, why));
  };
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  struct stat info {};
  if (file.fd < 0 || ::fstat(file.fd, &info) != 0) {
    fail(fmt::format("cannot open the {}: {}; check the path and its permissions", what,
                     reason(errno)));
  }
  if (!S_ISREG(info.st_mode)) fail(fmt::format("is not a regular file; expected a {}", what));
  const auto size = static_cast<size_t>(info.st_size);
  if (size == 0) fail(fmt::format("is empty; expected a {}", what));
  void* map = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (map == MAP_FAILED) {
    fail(fmt::format("cannot map the {} into memory: {}", what, reason(errno)));
  }
  map_ = {map, Unmap{size}};
}

void MappedFile::Unmap::operator()(void* map) const { ::munmap(map, bytes); }

std::string read_file(const std::string& path) {
  const OpenFile file(std::fopen(path.c_str(), "rb"));
  std::string content;
  if (file) {
    char block[1 << 16];
    for (size_t n; (n = std::fread(block, 1, sizeof block, file.get())) > 0;) {
      content.append(block, n);
    }
    if (std::ferror(file.get()) == 0) return content;
  }
  throw Error(ErrorCode::kInput, fmt::format("cannot read {}: {}; check the path and its "
                                             "permissions",
                                             path, reason(errno)));
}

}  // namespace restkv
