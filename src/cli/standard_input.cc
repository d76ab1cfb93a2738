#include "cli/standard_input.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/file.h"
#include "cli/process.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

using std::chrono::milliseconds;

/// Whether the descriptor has something to read, or has come to its end, within that time.
bool answers(int fd, milliseconds within) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + within;
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(end - Clock::now());
    pollfd one{fd, POLLIN, 0};
    const int ready = ::poll(&one, 1, static_cast<int>(std::max(left, milliseconds(0)).count()));
    if (ready > 0) return true;
    if (ready == 0 || errno != EINTR) return false;
  }
}

void wait_for_first_byte(int fd, const Patience& patience) {
  if (answers(fd, patience.until_notice)) return;
  notice("waiting for standard input, which is part of the prompt; < /dev/null leaves it out");
  if (answers(fd, patience.until_refusal - patience.until_notice)) return;
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("standard input is an open pipe, from which nothing has come in {:g} s; add "
                  "-f - to wait for it as long as it takes, or < /dev/null to leave it out",
                  std::chrono::duration<double>(patience.until_refusal).count()));
}

}  // namespace

std::string read_if_piped(int fd, const Patience& patience) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return {};
  if (S_ISREG(info.st_mode)) {
    const off_t begin = ::lseek(fd, 0, SEEK_CUR);
    if (begin <= 0) return read_to_end(fd, kStandardInputName);
    if (begin < info.st_size) {
      notice(
          "standard input is left out: another program has begun to read it (-f - reads the rest)");
    }
    return {};
  }
  if (!S_ISFIFO(info.st_mode) && !S_ISSOCK(info.st_mode)) return {};
  wait_for_first_byte(fd, patience);
  return read_to_end(fd, kStandardInputName);
}

}  // namespace restkv::cli
