#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "restkv/error.h"

namespace restkv {
namespace {

namespace fs = std::filesystem;

// Names of temporary files: kPartBegin, hexadecimal digits, kPartEnd.
constexpr std::string_view kPartBegin = "restkv-";
constexpr std::string_view kPartEnd = ".part";
constexpr size_t kPartDigits = 16;

constexpr size_t kMostBytesRead = size_t{4} << 30U;

std::string reason(int error) { return std::generic_category().message(error); }

std::string folder_of(const std::string& path) {
  const fs::path folder = fs::path(path).parent_path();
  return folder.empty() ? "." : folder.string();
}

/// `path` with the symbolic links at its end resolved; the last one may point to a missing file.
std::string follow_links(const std::string& path) {
  constexpr int kMostLinks = 40;  // as Linux
  fs::path target = path;
  std::error_code ignored;
  for (int i = 0; i < kMostLinks && fs::is_symlink(target, ignored); ++i) {
    target = target.parent_path() / fs::read_symlink(target, ignored);
  }
  return target.string();
}

bool is_part_name(std::string_view name) {
  if (name.size() != kPartBegin.size() + kPartDigits + kPartEnd.size()) return false;
  const std::string_view digits = name.substr(kPartBegin.size(), kPartDigits);
  return name.starts_with(kPartBegin) && name.ends_with(kPartEnd) &&
         digits.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// Removes temporary files without a writer; none on a file system without locks.
void remove_abandoned_parts(const std::string& folder) {
  std::error_code error;
  for (fs::directory_iterator each(folder, error), end; !error && each != end;
       each.increment(error)) {
    const std::string path = each->path().string();
    if (!is_part_name(each->path().filename().string())) continue;
    const Descriptor part{::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
    struct stat info {};
    if (part && ::fstat(part.get(), &info) == 0 && S_ISREG(info.st_mode) &&
        info.st_uid == ::geteuid() && ::flock(part.get(), LOCK_EX | LOCK_NB) == 0) {
      ::unlink(path.c_str());
    }
  }
}

/// Remedy for `error` of opening a file to read it.
std::string_view remedy_to_open(int error) {
  return error == EMFILE || error == ENFILE ? "raise the limit on open files (ulimit -n)"
                                            : "check the path and its permissions";
}

/// Remedy for `error` of writing `path`.
std::string remedy(const std::string& path, int error, size_t expected_bytes) {
  const std::string room =
      expected_bytes > 1 ? fmt::format("{} bytes are needed", expected_bytes) : "more is needed";
  std::error_code ignored;
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      if (path.ends_with('/')) return "name a file";
      if (fs::is_directory(folder_of(path), ignored)) break;  // it accepts no files, as /proc
      return fmt::format("make the folder {} first, or choose another", folder_of(path));
    case EISDIR:
      return "name a file in it";
    case EACCES:
    case EPERM:
    case EROFS:
      return "choose a file and a folder that can be written";
    case ENOSPC:
    case EDQUOT:
      return room + "; make room, or choose a folder on another disk";
    case EFBIG:
      return room + "; raise the limit on the size of files (ulimit -f)";
    default:
      break;
  }
  return "choose another file";
}

[[noreturn]] void fail_to_write(const std::string& path, int error, size_t expected_bytes) {
  throw Error(ErrorCode::kIo, fmt::format("cannot write {}: {}; {}", path, reason(error),
                                          remedy(path, error, expected_bytes)));
}

bool is_same(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// The descriptor of standard output or error if it refers to `file`; otherwise -1.
int standard_stream(const struct stat& file) {
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
    struct stat info {};
    if (::fstat(fd, &info) == 0 && is_same(info, file)) return fd;
  }
  return -1;
}

/// Whether `path` is written by way of a temporary file rather than directly. Throws if neither is
/// possible.
bool is_replaced(const std::string& path, const struct stat* there) {
  if (there == nullptr) return true;
  if (S_ISDIR(there->st_mode)) fail_to_write(path, EISDIR, 0);
  if (::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) != 0) fail_to_write(path, errno, 0);
  return S_ISREG(there->st_mode) && standard_stream(*there) < 0;
}

/// Status of the file at `path`; none if it does not exist.
std::optional<struct stat> information(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0) return info;
  if (errno != ENOENT) fail_to_write(path, errno, 0);
  return std::nullopt;
}

}  // namespace

AtomicFile::AtomicFile(std::string path, size_t expected_bytes)
    : path_(std::move(path)), expected_bytes_(expected_bytes), target_(follow_links(path_)) {
  const std::optional<struct stat> there = information(path_);
  Descriptor fd;
  if (is_replaced(path_, there ? &*there : nullptr)) {
    fd = open_temporary(there);
  } else if (const int stream = standard_stream(*there); stream >= 0) {
    // Opening it again would overwrite from the beginning what the program has printed.
    fd = Descriptor(::fcntl(stream, F_DUPFD_CLOEXEC, 0));
  } else {
    fd = Descriptor(::open(path_.c_str(), O_WRONLY | O_NOCTTY | O_CLOEXEC));
  }
  if (!fd) fail(errno);
  file_.reset(::fdopen(fd.get(), "wb"));
  if (!file_) fail(errno);
  (void)fd.release();
}

Descriptor AtomicFile::open_temporary(const std::optional<struct stat>& there) {
  const std::string folder = folder_of(target_);
  remove_abandoned_parts(folder);
  while (true) {
    uint64_t random = 0;
    if (::getrandom(&random, sizeof random, 0) != sizeof random) fail(errno);
    const std::string name = fmt::format("{}{:0{}x}{}", kPartBegin, random, kPartDigits, kPartEnd);
    const std::string temporary = (fs::path(target_).parent_path() / name).string();
    Descriptor fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                         there ? there->st_mode & 0777U : 0666U));
    if (!fd && errno == EEXIST) continue;
    if (!fd) fail(errno);
    // Before the lock was taken, another process may have removed the file as abandoned.
    const bool is_held = ::flock(fd.get(), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    struct stat info {};
    if (!is_held || ::fstat(fd.get(), &info) != 0 || info.st_nlink == 0) continue;
    temporary_ = temporary;
    if (there) {
      // Keeps the owner if root overwrites another user's file; others may not change it.
      const bool is_owned = ::fchown(fd.get(), there->st_uid, there->st_gid) == 0;
      if (is_owned || info.st_uid == there->st_uid) ::fchmod(fd.get(), there->st_mode & 0777U);
    }
    return fd;
  }
}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::string_view bytes) {
  if (bytes.empty()) return;  // its data may be null
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) fail(errno);
}

void AtomicFile::commit() {
  // A full disk may show only when buffered bytes are flushed or the file is closed.
  if (std::fflush(file_.get()) != 0 || std::ferror(file_.get()) != 0) fail(errno);
  if (!temporary_.empty()) {
    if (::fsync(::fileno(file_.get())) != 0) fail(errno);
    // Renamed before it is closed, because closing releases the lock.
    if (std::rename(temporary_.c_str(), target_.c_str()) != 0) fail(errno);
    temporary_.clear();
    // The new name is on the disk once its folder is synchronised; some file systems refuse that.
    const Descriptor folder{::open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (folder) ::fsync(folder.get());
  }
  if (std::fclose(file_.release()) != 0) fail(errno);
}

void AtomicFile::fail(int error) const { fail_to_write(path_, error, expected_bytes_); }

void require_writable(const std::string& path) {
  const std::optional<struct stat> there = information(path);
  // A pipe is not opened: closing it again would end the input of its reader.
  if (is_replaced(path, there ? &*there : nullptr)) const AtomicFile tried(path, 0);
}

void require_writable_folder(const std::string& path, std::initializer_list<const char*> files) {
  const auto fail = [&](int error) {
    throw Error(ErrorCode::kIo, fmt::format("cannot write into the folder {}: {}; choose another "
                                            "with -o",
                                            path, reason(error)));
  };
  // Missing folders will be made in the first one that exists.
  fs::path folder = fs::path(path).lexically_normal();
  struct stat info {};
  while (::stat(folder.empty() ? "." : folder.c_str(), &info) != 0) {
    if (errno != ENOENT) fail(errno);
    if (fs::is_symlink(folder)) fail(ENOENT);  // to nothing
    folder = folder.has_filename() ? folder.parent_path() : folder.parent_path().parent_path();
  }
  if (!S_ISDIR(info.st_mode)) fail(ENOTDIR);
  std::string tried = (folder / "restkv-XXXXXX").string();
  if (::mkdtemp(tried.data()) == nullptr) fail(errno);
  ::rmdir(tried.c_str());
  for (const char* file : files) {
    const std::string name = (fs::path(path) / file).string();
    if (const auto there = information(name)) (void)is_replaced(name, &*there);
  }
}

void make_folder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error) return;
  throw Error(ErrorCode::kIo, fmt::format("cannot make the folder {}: {}; choose another with -o",
                                          path, error.message()));
}

bool is_standard_output(const std::string& path) {
  struct stat info {};
  struct stat output {};
  if (::stat(path.c_str(), &info) != 0 || ::fstat(STDOUT_FILENO, &output) != 0) return false;
  const bool keeps_nothing = S_ISCHR(info.st_mode) && ::isatty(STDOUT_FILENO) == 0;  // /dev/null
  return is_same(info, output) && !keeps_nothing;
}

bool same_file(const std::string& a, const std::string& b) {
  struct stat of_a {};
  struct stat of_b {};
  const bool a_exists = ::stat(a.c_str(), &of_a) == 0;
  const bool b_exists = ::stat(b.c_str(), &of_b) == 0;
  if (a_exists || b_exists) return a_exists && b_exists && is_same(of_a, of_b);
  std::error_code ignored;
  // Made absolute first: weakly_canonical keeps relative names of missing files relative.
  const auto whole = [&](const std::string& path) {
    return fs::weakly_canonical(fs::absolute(follow_links(path), ignored), ignored);
  };
  return whole(a) == whole(b);
}

std::string first_bytes(const std::string& path, size_t count) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)};
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) return {};
  std::string bytes(count, '\0');
  const ssize_t got = ::read(file.get(), bytes.data(), count);
  bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return bytes;
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
  // Opening a pipe would wait for a writer.
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)};
  struct stat info {};
  if (!file || ::fstat(file.get(), &info) != 0) {
    fail(fmt::format("cannot open the {}: {}; {}", what, reason(errno), remedy_to_open(errno)));
  }
  if (!S_ISREG(info.st_mode)) fail(fmt::format("is not a regular file; expected a {}", what));
  const auto size = static_cast<size_t>(info.st_size);
  if (size == 0) fail(fmt::format("is empty; expected a {}", what));
  void* map = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (map == MAP_FAILED) {
    fail(fmt::format("cannot map the {} into memory: {}", what, reason(errno)));
  }
  map_ = {map, Unmap{size}};
}

void MappedFile::Unmap::operator()(void* map) const { ::munmap(map, bytes); }

std::string read_to_end(int fd, std::string_view name) {
  std::string content;
  std::array<char, 1 << 16> block;
  for (;;) {
    const ssize_t size = ::read(fd, block.data(), block.size());
    if (size > 0) {
      content.append(block.data(), static_cast<size_t>(size));
      if (content.size() <= kMostBytesRead) continue;
      throw Error(ErrorCode::kInput, fmt::format("cannot read {}: it has more than {} GiB", name,
                                                 kMostBytesRead >> 30U));
    }
    if (size == 0) return content;
    if (errno == EAGAIN) {  // another process has made it non-blocking
      pollfd readable{fd, POLLIN, 0};
      ::poll(&readable, 1, -1);
    } else if (errno != EINTR) {
      throw Error(ErrorCode::kInput, fmt::format("cannot read {}: {}", name, reason(errno)));
    }
  }
}

std::string read_file(const std::string& path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file) return read_to_end(file.get(), path);
  throw Error(ErrorCode::kInput,
              fmt::format("cannot read {}: {}; {}", path, reason(errno), remedy_to_open(errno)));
}

}  // namespace restkv
