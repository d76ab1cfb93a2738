#pragma once

#include <filesystem>
#include <vector>

#include "base/json.h"

namespace restkv::testing {

/// Expected values made with the published programs (tests/data/README.md).
std::filesystem::path metrics_directory();
/// The file as JSON, or one JSON value per line. Throws std::runtime_error naming the file.
Json read_json(const std::filesystem::path& path);
std::vector<Json> read_jsonl(const std::filesystem::path& path);

}  // namespace restkv::testing
