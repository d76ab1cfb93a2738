#include "support/golden.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace restkv::testing {
namespace {

std::filesystem::path own_directory() {
  return std::filesystem::path(RESTKV_TEST_DATA_DIR) / "golden";
}

}  // namespace

bool GoldenCase::runs_model() const {
  const auto inputs = description_.at("inputs").get<std::vector<std::string>>();
  return std::ranges::any_of(inputs,
                             [](const std::string& file) { return file.ends_with("config.json"); });
}

std::filesystem::path GoldenCase::input(const std::string& ending) const {
  for (const std::string& file : description_.at("inputs").get<std::vector<std::string>>()) {
    if (file.ends_with(ending)) return directory_ / file;
  }
  throw std::runtime_error(name() + " has no input " + ending);
}

void GoldenCase::load() {
  for (const std::string& file : description_.at("inputs").get<std::vector<std::string>>()) {
    if (file.ends_with(".npz")) arrays_.merge(read_npz(directory_ / file));
  }
  arrays_.merge(read_npz(directory_ / description_.at("file").get<std::string>()));
  if (const Json* raw = description_.find("raw_in")) {
    arrays_["raw"] = read_npz(directory_ / raw->get<std::string>()).at("raw");
  }
  for (auto& [array, content] : arrays_) {
    const auto scale = arrays_.find(array + "_scale");
    if (scale == arrays_.end()) continue;
    for (const int32_t x : content.ints) {
      content.floats.push_back(static_cast<float>(x) * scale->second.floats.at(0));
    }
  }
}

const Array& GoldenCase::find(const std::string& array) const {
  const auto it = arrays_.find(array);
  if (it == arrays_.end()) throw std::runtime_error(name() + " has no array " + array);
  return it->second;
}

const std::vector<size_t>& GoldenCase::shape(const std::string& array) const {
  return find(array).shape;
}

const std::vector<float>& GoldenCase::floats(const std::string& array) const {
  return find(array).floats;
}

const std::vector<int32_t>& GoldenCase::ints(const std::string& array) const {
  return find(array).ints;
}

Matrix<const float> GoldenCase::matrix(const std::string& array) const {
  const float* data = floats(array).data();
  return {data, shape(array).at(0), shape(array).at(1)};
}

Heads<const float> GoldenCase::heads(const std::string& array) const {
  const float* data = floats(array).data();
  return {data, shape(array).at(0), shape(array).at(1), shape(array).at(2)};
}

Heads<const float> GoldenCase::heads(const std::string& array, size_t index) const {
  const std::vector<size_t>& extents = shape(array);
  const size_t size = extents.at(1) * extents.at(2) * extents.at(3);
  return {floats(array).data() + index * size, extents[1], extents[2], extents[3]};
}

std::filesystem::path golden_directory() {
  const char* directory = std::getenv("RESTKV_GOLDEN_DIR");
  if (directory != nullptr && *directory != '\0') return directory;
  return own_directory();
}

std::vector<GoldenCase> golden_cases() {
  const std::filesystem::path directory = golden_directory();
  const Json index = read_json((directory / "index.json").string());
  std::vector<GoldenCase> cases;
  for (const auto& description : index.at("cases")) cases.emplace_back(directory, description);
  return cases;
}

void GoldenTally::finish() const {
  size_t total = 0;
  for (const auto& [kind, count] : compared_) {
    std::printf("golden: %zu cases of %s\n", count, kind.c_str());
    total += count;
  }
  std::string missing;
  for (const auto& [reason, names] : left_out_) {
    missing +=
        fmt::format("\nnot compared, {} ({}): {}", reason, names.size(), fmt::join(names, ", "));
  }
  if (total == 0) missing += "\nno case was compared";
  if (missing.empty()) return;
  if (golden_directory() == own_directory()) {
    FAIL() << golden_directory() << missing;
  } else {
    GTEST_SKIP() << golden_directory() << missing << "\ncompared: " << total;
  }
}

}  // namespace restkv::testing
