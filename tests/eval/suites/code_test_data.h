#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "eval/suites/benchmark_data.h"
#include "support/tiny_model.h"

/// A data folder for the suites that work with code.
namespace restkv::test {

inline std::filesystem::path small_humaneval() {
  return std::filesystem::path(RESTKV_TEST_DATA_DIR) / "humaneval" / "HumanEval.jsonl";
}

/// HumanEval's problems with made-up records of lcc and repobench-p: Python and Java of different
/// sizes. Among the names they define are entry points of the problems.
class CodeData {
 public:
  explicit CodeData(size_t records_per_set = 40) {
    std::filesystem::create_directory(folder_.path() / "humaneval");
    std::filesystem::create_directory(folder_.path() / "longbench");
    std::filesystem::copy_file(small_humaneval(), folder_.path() / "humaneval/HumanEval.jsonl");
    for (const Json& record : read_jsonl(small_humaneval())) {
      entry_points_.push_back(record.at("entry_point").text());
    }
    Random random(7);
    write("lcc", records_per_set, random);
    write("repobench-p", records_per_set, random);
  }

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_.path(); }

 private:
  void write(const std::string& set, size_t records, Random& random) const {
    std::ofstream file(folder_.path() / "longbench" / (set + ".jsonl"));
    for (size_t i = 0; i < records; ++i) {
      const bool java = random.below(2) == 0;
      std::string context = java ? "import java.util.List;\n" : "import os\n";
      const size_t functions = 1 + random.below(30);
      for (size_t f = 0; f < functions; ++f) {
        const std::string name = random.below(20) == 0
                                     ? random.pick(entry_points_)
                                     : fmt::format("step_{}_{}_{}", set.size(), i, f);
        const int64_t number = random.between(0, 99999);
        context += java ? fmt::format("int {}(int x) {{\n    return x * {};\n}}\n", name, number)
                        : fmt::format("def {}(x):\n    return x * {}\n\n\n", name, number);
      }
      const Json record{{"context", context},
                        {"input", ""},
                        {"answers", {fmt::format("    result_{} = 1", i)}},
                        {"length", 10},
                        {"all_classes", nullptr}};
      file << record.dump() << '\n';
    }
  }

  testing::TemporaryFolder folder_;
  std::vector<std::string> entry_points_;
};

}  // namespace restkv::test
