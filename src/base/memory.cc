#include "base/memory.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <optional>
#include <string_view>

#include "base/control_groups.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace restkv {
namespace {

/// The number after `name` at the beginning of a line.
std::optional<size_t> find_number(const std::string& path, std::string_view name) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    size_t number = 0;
    if (word == name && file >> number) return number;
    file.clear();
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return std::nullopt;
}

/// The number that is the whole content of a file.
std::optional<size_t> read_number(const std::string& path) {
  std::ifstream file(path);
  size_t number = 0;
  if (file >> number) return number;
  return std::nullopt;  // "max", too: no limit
}

/// Bytes that a container's limit leaves.
size_t left_of_limit(const std::string& limit_path, const std::string& usage_path,
                     const std::string& statistics_path) {
  const auto limit = read_number(limit_path);
  const auto usage = read_number(usage_path);
  if (!limit || !usage) return SIZE_MAX;
  const size_t files = find_number(statistics_path, "inactive_file").value_or(0);
  return *limit - std::min(*limit, *usage - std::min(*usage, files));
}

}  // namespace

size_t available_memory(const std::string& root) {
  size_t available = SIZE_MAX;
  if (const auto kilobytes = find_number(root + "/proc/meminfo", "MemAvailable:")) {
    available = *kilobytes * 1024;
  }
  for (const std::string& group : control_groups(root, "memory")) {
    const std::string statistics = group + "/memory.stat";
    available = std::min(
        {available, left_of_limit(group + "/memory.max", group + "/memory.current", statistics),
         left_of_limit(group + "/memory.limit_in_bytes", group + "/memory.usage_in_bytes",
                       statistics)});
  }
  return available;
}

void return_free_memory() {
#ifdef __GLIBC__
  (void)malloc_trim(0);
#endif
}

}  // namespace restkv
