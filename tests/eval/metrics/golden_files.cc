#include "eval/metrics/golden_files.h"

#include <sstream>

#include "base/file.h"

namespace restkv::testing {

std::filesystem::path metrics_directory() {
  return std::filesystem::path(RESTKV_TEST_DATA_DIR) / "metrics";
}

Json read_json(const std::filesystem::path& path) {
  return parse_json(read_file(path.string()), path.string());
}

std::vector<Json> read_jsonl(const std::filesystem::path& path) {
  std::vector<Json> records;
  std::istringstream lines(read_file(path.string()));
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty()) records.push_back(parse_json(line, path.string()));
  }
  return records;
}

}  // namespace restkv::testing
