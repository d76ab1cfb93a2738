#include "sandbox/users.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>

#include "base/descriptor.h"

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;

bool write_file(const std::string& path, std::string_view text) {
  const Descriptor file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return file.get() >= 0 &&
         write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

/// The text after `key` in a status file of /proc.
std::istringstream status_field(const fs::path& file, std::string_view key) {
  std::ifstream status(file);
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key)) return std::istringstream(line.substr(key.size()));
  }
  return {};
}

/// Whether `id` exists in this process's user namespace.
bool is_mapped(const char* map, uint64_t id) {
  std::ifstream file(map);
  uint64_t first = 0;
  uint64_t outside = 0;
  for (uint64_t count = 0; file >> first >> outside >> count;) {
    if (id >= first && id - first < count) return true;
  }
  return false;
}

}  // namespace

bool can_become_nobody() {
  uint64_t capabilities = 0;
  status_field("/proc/self/status", "CapEff:") >> std::hex >> capabilities;
  constexpr uint64_t kNeeded = uint64_t{1} << CAP_SETUID | uint64_t{1} << CAP_SETGID;
  return geteuid() == 0 && (capabilities & kNeeded) == kNeeded &&
         is_mapped("/proc/self/uid_map", kNobody) && is_mapped("/proc/self/gid_map", kNobody);
}

std::optional<std::string> map_users(pid_t pid, bool to_nobody) {
  const std::string folder = fmt::format("/proc/{}/", pid);
  const uid_t user = to_nobody ? kNobody : geteuid();
  const gid_t group = to_nobody ? kNobody : getegid();
  const bool mapped = (to_nobody || write_file(folder + "setgroups", "deny")) &&
                      write_file(folder + "uid_map", fmt::format("{} {} 1", kNobody, user)) &&
                      write_file(folder + "gid_map", fmt::format("{} {} 1", kNobody, group));
  if (mapped) return {};
  return fmt::format("user map: {}", std::strerror(errno));
}

size_t threads_of(uid_t user) {
  size_t found = 0;
  std::error_code ended;  // processes come and go
  for (fs::directory_iterator entry("/proc", ended), end; !ended && entry != end;
       entry.increment(ended)) {
    const fs::path status = entry->path() / "status";
    uid_t owner = 0;
    size_t threads = 0;
    if (status_field(status, "Uid:") >> owner && owner == user &&
        status_field(status, "Threads:") >> threads) {
      found += threads;
    }
  }
  return found;
}

}  // namespace restkv::eval
