#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

namespace restkv::testing {

/// Expected values made with the published programs (tests/data/README.md).
std::filesystem::path metrics_directory();
/// The file as JSON, or one JSON value per line. Throws std::runtime_error naming the file.
nlohmann::json read_json(const std::filesystem::path& path);
std::vector<nlohmann::json> read_jsonl(const std::filesystem::path& path);

}  // namespace restkv::testing
