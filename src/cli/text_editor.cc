#include "cli/text_editor.h"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "base/descriptor.h"
#include "base/file.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const std::string& what, const std::string& why) {
  throw Error(ErrorCode::kIo, fmt::format("{}: {}; set EDITOR to another program", what, why));
}

std::string editor_name() {
  for (const char* variable : {"VISUAL", "EDITOR"}) {
    const char* const name = std::getenv(variable);
    if (name != nullptr && *name != '\0') return name;
  }
  return "vi";
}

/// A file that nobody else can read, for as long as it is edited.
class TemporaryText {
 public:
  explicit TemporaryText(const std::string& text)
      : path_((fs::temp_directory_path() / "restkv-message-XXXXXX").string()) {
    const Descriptor file{::mkstemp(path_.data())};
    if (file.get() < 0) refuse(path_, std::generic_category().message(errno));
    write_file_atomically(path_, text);
  }
  ~TemporaryText() { ::unlink(path_.c_str()); }
  TemporaryText(const TemporaryText&) = delete;
  TemporaryText& operator=(const TemporaryText&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Runs the editor, whose name may have options behind it, with signals as other programs get them:
/// here they are blocked (`take_signals`).
int run(const std::string& editor, const std::string& path) {
  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  std::string command = editor + " \"$1\"";
  std::string file = path;
  std::array<char*, 6> arguments{const_cast<char*>("sh"),
                                 const_cast<char*>("-c"),
                                 command.data(),
                                 const_cast<char*>("sh"),
                                 file.data(),
                                 nullptr};
  pid_t process = 0;
  const int error =
      ::posix_spawn(&process, "/bin/sh", nullptr, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) refuse(editor, std::generic_category().message(error));
  int status = 0;
  while (::waitpid(process, &status, 0) < 0) {
    if (errno != EINTR) refuse(editor, std::generic_category().message(errno));
  }
  return status;
}

}  // namespace

std::string edited(const std::string& text) {
  const TemporaryText file(text + '\n');
  const std::string editor = editor_name();
  if (run(editor, file.path()) != 0) refuse(editor, "the editor ended with an error");
  std::string changed = read_file(file.path());
  while (changed.ends_with('\n')) changed.pop_back();
  return changed;
}

}  // namespace restkv::cli
