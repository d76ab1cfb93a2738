#include "base/control_groups.h"

#include <fmt/format.h>

#include <fstream>
#include <string_view>

namespace restkv {
namespace {

/// The path of a line "5:cpu,cpuacct:/path" (version 1) or "0::/path" (version 2) if the line
/// belongs to `controller`.
std::string path_of(const std::string& line, std::string_view controller) {
  const size_t first = line.find(':');
  const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
  if (second == std::string::npos) return {};
  const std::string controllers = line.substr(first + 1, second - first - 1);
  const bool unified = controllers.empty();
  const bool of_this =
      fmt::format(",{},", controllers).find(fmt::format(",{},", controller)) != std::string::npos;
  if (!unified && !of_this) return {};
  return line.substr(second + 1);
}

}  // namespace

std::vector<std::string> control_groups(const std::string& root, const std::string& controller) {
  const std::string unified = root + "/sys/fs/cgroup";
  const std::string own = unified + "/" + controller;
  std::vector<std::string> folders{unified, own};
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    std::string path = path_of(line, controller);
    for (; path.size() > 1; path.resize(path.rfind('/'))) {
      folders.push_back(unified + path);
      folders.push_back(own + path);
      if (path.rfind('/') == std::string::npos) break;
    }
  }
  return folders;
}

}  // namespace restkv
