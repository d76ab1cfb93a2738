#include "base/line_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/file.h"
#include "restkv/error.h"

namespace restkv {
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

[[noreturn]] void fail(const std::string& path, int error) {
  throw Error(ErrorCode::kIo,
              fmt::format("cannot write {}: {}; choose a folder that exists and is writable", path,
                          reason(error)));
}

/// The name of a new file is on the disk once its folder is synchronised.
void synchronise_folder(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  const Descriptor folder(
      ::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder) ::fsync(folder.get());
}

}  // namespace

LineFile::LineFile(std::string path) : path_(std::move(path)) {
  constexpr int kFlags = O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC;
  file_ = Descriptor(::open(path_.c_str(), kFlags | O_EXCL, 0666));
  is_new_ = static_cast<bool>(file_);
  if (!file_) file_ = Descriptor(::open(path_.c_str(), kFlags, 0666));
  if (!file_) fail(path_, errno);
  if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} is being written by another process; wait for its end, or write "
                            "to another file",
                            path_));
  }
  content_ = read_file(path_);
  synchronise_folder(path_);
}

LineFile::~LineFile() {
  struct stat now {};
  if (is_new_ && ::fstat(file_.get(), &now) == 0 && now.st_size == 0) ::unlink(path_.c_str());
}

std::string_view LineFile::lines() const {
  const size_t end = content_.rfind('\n');
  return std::string_view(content_).substr(0, end == std::string::npos ? 0 : end + 1);
}

std::string_view LineFile::torn_line() const {
  return std::string_view(content_).substr(lines().size());
}

void LineFile::remove_torn_line() {
  if (torn_line().empty()) return;
  const size_t size = lines().size();
  if (::ftruncate(file_.get(), static_cast<off_t>(size)) != 0) fail(path_, errno);
  content_.resize(size);
}

void LineFile::append(std::string_view line) {
  const std::string whole = std::string(line) + '\n';
  const off_t before = ::lseek(file_.get(), 0, SEEK_END);
  int error = before < 0 ? errno : 0;
  for (size_t done = 0; error == 0 && done < whole.size();) {
    const ssize_t written = ::write(file_.get(), whole.data() + done, whole.size() - done);
    if (written >= 0) {
      done += static_cast<size_t>(written);
    } else if (errno != EINTR) {
      error = errno;
    }
  }
  if (error == 0 && ::fsync(file_.get()) != 0) error = errno;
  if (error == 0) return;
  // A failure is harmless, because an incomplete line is ignored.
  const bool restored = before >= 0 && ::ftruncate(file_.get(), before) == 0;
  throw Error(ErrorCode::kIo,
              fmt::format("cannot write {}: {}; {}. Free {} bytes or more, then give the same "
                          "command again: it goes on with this line",
                          path_, reason(error),
                          restored ? "the lines before are complete"
                                   : "its last line is incomplete and will be ignored",
                          whole.size()));
}

}  // namespace restkv
