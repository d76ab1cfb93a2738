#include "eval/suites/find_file.h"

#include <algorithm>
#include <string>
#include <system_error>
#include <vector>

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;

bool matches(std::string_view name, std::string_view pattern) {
  const size_t star = pattern.find('*');
  if (star == std::string_view::npos) return name == pattern;
  const std::string_view begin = pattern.substr(0, star);
  const std::string_view end = pattern.substr(star + 1);
  return name.size() >= begin.size() + end.size() && name.starts_with(begin) && name.ends_with(end);
}

std::optional<fs::path> first_match(const fs::path& path) {
  std::error_code ignored;
  if (fs::exists(path, ignored)) return path;
  const std::string pattern = path.filename().string();
  if (pattern.find('*') == std::string::npos) return std::nullopt;
  std::optional<fs::path> first;
  for (const auto& entry : fs::directory_iterator(path.parent_path(), ignored)) {
    if (!matches(entry.path().filename().string(), pattern)) continue;
    if (!first || entry.path() < *first) first = entry.path();
  }
  return first;
}

}  // namespace

std::optional<fs::path> find_file(const fs::path& data, std::string_view name) {
  if (data.empty()) return std::nullopt;
  if (auto found = first_match(data / name)) return found;
  const size_t slash = name.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  return first_match(data / name.substr(slash + 1));
}

std::optional<fs::path> find_task_file(const TaskInfo& task, const fs::path& data) {
  if (task.file.empty()) return std::nullopt;
  std::vector<std::string> names{task.file};
  names.insert(names.end(), task.other_files.begin(), task.other_files.end());
  for (const std::string& name : names) {
    for (const char* ending : {"", ".gz"}) {
      std::error_code ignored;
      auto found = find_file(data, name + ending);
      if (found && fs::is_regular_file(*found, ignored)) return found;
    }
  }
  return std::nullopt;
}

}  // namespace restkv::eval
