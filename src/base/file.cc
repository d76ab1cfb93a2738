#include "base/file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>

#include "restkv/error.h"

namespace restkv {
namespace {

namespace fs = std::filesystem;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

std::string reason(int error) { return std::generic_category().message(error); }

/// 0, or the errno of the step that failed. Buffered bytes may only meet a full disk when they are
/// flushed or when the file is closed, so every step counts.
int write_all(const fs::path& path, std::string_view content) {
  File file(std::fopen(path.c_str(), "wb"));
  if (!file) return errno;
  if (std::fwrite(content.data(), 1, content.size(), file.get()) != content.size()) return errno;
  if (std::fflush(file.get()) != 0 || std::ferror(file.get()) != 0) return errno;
  return std::fclose(file.release()) == 0 ? 0 : errno;
}

}  // namespace

void write_file_atomically(const std::string& path, std::string_view content) {
  std::error_code ignored;
  fs::path target = path;
  if (fs::is_symlink(target, ignored)) {
    const fs::path pointed_to = fs::weakly_canonical(target, ignored);
    if (!pointed_to.empty()) target = pointed_to;
  }
  // Renaming over /dev/full or a named pipe would replace the device by a regular file.
  const bool rename = !fs::exists(target, ignored) || fs::is_regular_file(target, ignored);
  fs::path written = target;
  if (rename) written += fmt::format(".{}.part", ::getpid());

  int error = write_all(written, content);
  if (error == 0 && rename && std::rename(written.c_str(), target.c_str()) != 0) error = errno;
  if (error == 0) return;
  if (rename) fs::remove(written, ignored);
  throw Error(ErrorCode::kIo,
              fmt::format("cannot write {}: {}; choose a folder that exists, is writable and has "
                          "{} bytes free",
                          path, reason(error), content.size()));
}

std::string read_file(const std::string& path) {
  const File file(std::fopen(path.c_str(), "rb"));
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
