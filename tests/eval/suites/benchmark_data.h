#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/json.h"

/// Files of the benchmarks that are too large or not free enough for the repository.
namespace restkv::test {

/// The folder that an environment variable names; nothing if it is not set. Throws
/// std::runtime_error if it names none.
inline std::optional<std::filesystem::path> folder_from_environment(const char* variable) {
  const char* folder = std::getenv(variable);
  if (folder == nullptr || *folder == '\0') return std::nullopt;
  if (!std::filesystem::is_directory(folder)) {
    throw std::runtime_error(std::string(variable) + " names " + folder + ", which is no folder");
  }
  return std::filesystem::path(folder);
}

/// Skips the test visibly where `variable` names no folder.
#define RESTKV_FOLDER_OR_SKIP(folder, variable)                                     \
  const auto optional_##folder = ::restkv::test::folder_from_environment(variable); \
  if (!optional_##folder) GTEST_SKIP() << "set " << (variable) << " to check";      \
  const std::filesystem::path& folder = *optional_##folder

inline std::vector<Json> read_jsonl(const std::filesystem::path& path) {
  std::vector<Json> records;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) records.push_back(parse_json(line));
  }
  if (records.empty()) throw std::runtime_error("no records in " + path.string());
  return records;
}

}  // namespace restkv::test
