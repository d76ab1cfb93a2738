#include "eval/metrics/golden_files.h"

#include <fmt/format.h>

#include <sstream>
#include <stdexcept>

#include "base/file.h"

namespace restkv::testing {
namespace {

nlohmann::json parse(const std::string& text, const std::filesystem::path& path) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    throw std::runtime_error(fmt::format("{}: {}", path.string(), error.what()));
  }
}

}  // namespace

std::filesystem::path metrics_directory() {
  return std::filesystem::path(RESTKV_TEST_DATA_DIR) / "metrics";
}

nlohmann::json read_json(const std::filesystem::path& path) {
  return parse(read_file(path.string()), path);
}

std::vector<nlohmann::json> read_jsonl(const std::filesystem::path& path) {
  std::vector<nlohmann::json> records;
  std::istringstream lines(read_file(path.string()));
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty()) records.push_back(parse(line, path));
  }
  return records;
}

}  // namespace restkv::testing
