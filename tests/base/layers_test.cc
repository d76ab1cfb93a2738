// The folders of src/ stand in layers (CONTRIBUTING.md): none includes a header of one above it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace restkv {
namespace {

namespace fs = std::filesystem;

/// From the bottom to the top, in the order of the table in CONTRIBUTING.md; a public header
/// belongs to the folder that implements it.
const std::map<std::string, int> kLayers{
    {"base", 0},
    {"kv", 1},
    {"linear", 2},
    {"attention", 3},
    {"compress", 4},
    {"model", 5},
    {"cluster", 6},
    {"engine", 7},
    {"generate", 8},
    {"doors", 9},
    {"calibrate", 10},
    {"sandbox", 11},
    {"document", 12},
    {"hub", 13},
    {"eval", 13},
    {"server", 14},
    {"report", 15},
    {"bench", 16},
    {"cli", 17},
    {"restkv/aligned.h", 0},
    {"restkv/error.h", 0},
    {"restkv/precision.h", 0},
    {"restkv/selection.h", 0},
    {"restkv/threads.h", 0},
    {"restkv/views.h", 0},
    {"restkv/attention.h", 1},  // decode attention is declared with the rows of `kv` that it reads
    {"restkv/kv_cache.h", 1},
    {"restkv/sparse.h", 3},
    {"restkv/budget.h", 4},
    {"restkv/compress.h", 4},
    {"restkv/compression_options.h", 4},
    {"restkv/query_statistics.h", 4},
    {"restkv/stages.h", 4},
    {"restkv/model.h", 5},
    {"restkv/sampler.h", 5},
    {"restkv/tokenizer.h", 5},
    {"restkv/engine.h", 7},
    {"restkv/repeat.h", 7},
    {"restkv/session.h", 7},
    {"restkv/conversation.h", 8},
    {"restkv/generate.h", 8},
};

TEST(Layers, IncludeNothingAboveThem) {
  const fs::path root = fs::path(RESTKV_TEST_DATA_DIR).parent_path().parent_path();
  constexpr std::string_view kInclude = "#include \"";
  std::vector<std::string> wrong;
  size_t seen = 0;
  const auto layer_of = [](const std::string& folder_or_header) {
    const auto found = kLayers.find(folder_or_header);
    return found == kLayers.end() ? -1 : found->second;
  };
  const auto check = [&](const fs::path& file, int layer) {
    const std::string text = read_file(file.string());
    for (size_t at = text.find(kInclude); at != std::string::npos; at = text.find(kInclude, at)) {
      at += kInclude.size();
      const std::string header = text.substr(at, text.find('"', at) - at);
      const std::string folder = header.substr(0, header.find('/'));
      const bool is_public = folder == "restkv";
      const int other = layer_of(is_public ? header : folder);
      ++seen;
      const bool of_a_library = other < 0 && !is_public;
      if (of_a_library || (other >= 0 && other <= layer)) continue;
      wrong.push_back(
          fmt::format("{} includes {}", file.lexically_relative(root).string(), header));
    }
  };
  for (const auto& entry : fs::recursive_directory_iterator(root / "src")) {
    const std::string ending = entry.path().extension().string();
    if (ending != ".h" && ending != ".cc") continue;
    const fs::path below = entry.path().lexically_relative(root / "src");
    check(entry.path(), layer_of(below.begin()->string()));
  }
  for (const auto& entry : fs::directory_iterator(root / "include" / "restkv")) {
    check(entry.path(), layer_of("restkv/" + entry.path().filename().string()));
  }
  EXPECT_GT(seen, 1000U);
  EXPECT_THAT(wrong, ::testing::IsEmpty());
}

}  // namespace
}  // namespace restkv
