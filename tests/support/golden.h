#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "restkv/views.h"
#include "support/npz.h"

namespace restkv::testing {

/// One case of the golden vectors: its description, and its arrays loaded on demand.
class GoldenCase {
 public:
  GoldenCase(std::filesystem::path directory, Json description)
      : directory_(std::move(directory)), description_(std::move(description)) {}

  [[nodiscard]] std::string name() const { return description_.at("name").get<std::string>(); }
  /// The name up to the first dot.
  [[nodiscard]] std::string family() const { return name().substr(0, name().find('.')); }
  [[nodiscard]] std::string method() const { return description_.at("method").get<std::string>(); }
  [[nodiscard]] const Json& params() const { return description_.at("params"); }

  /// Whether the case runs a model and belongs to the tests of the engine.
  [[nodiscard]] bool runs_model() const;
  /// Whether the cache is cut while the model writes an answer.
  [[nodiscard]] bool decodes() const { return name().find(".decode.") != std::string::npos; }
  /// The input file whose name ends with `ending`. Throws std::runtime_error if there is none.
  [[nodiscard]] std::filesystem::path input(const std::string& ending) const;
  /// Reads the case's inputs and outputs; must be called once before they are used. If the case
  /// shares `raw` with another one, it is read from the file named by `raw_in`. The caller reads
  /// input files other than .npz.
  void load();
  [[nodiscard]] bool has(const std::string& array) const { return arrays_.contains(array); }
  [[nodiscard]] const std::vector<size_t>& shape(const std::string& array) const;
  /// A float32 array, or an int8 array multiplied by its companion `<array>_scale`.
  [[nodiscard]] const std::vector<float>& floats(const std::string& array) const;
  [[nodiscard]] const std::vector<int32_t>& ints(const std::string& array) const;
  /// The same as views; the array must have 2 or 3 dimensions.
  [[nodiscard]] Matrix<const float> matrix(const std::string& array) const;
  [[nodiscard]] Heads<const float> heads(const std::string& array) const;
  /// Entry `index` of an array of 4 dimensions.
  [[nodiscard]] Heads<const float> heads(const std::string& array, size_t index) const;

 private:
  [[nodiscard]] const Array& find(const std::string& array) const;

  std::filesystem::path directory_;
  Json description_;
  Arrays arrays_;
};

/// Folder of the golden vectors: the environment variable RESTKV_GOLDEN_DIR, or the small set in
/// tests/data/golden.
std::filesystem::path golden_directory();
/// All cases of the directory's index.json, not loaded.
std::vector<GoldenCase> golden_cases();

/// Counts the cases that a test has used.
class GoldenTally {
 public:
  void compared(const std::string& kind) { ++compared_[kind]; }
  void left_out(const GoldenCase& golden, const std::string& reason) {
    left_out_[reason].push_back(golden.name());
  }
  /// Ends the test: prints the counts, and marks the test as skipped if a case was left out or
  /// there was none. With the project's own set, which must contain all cases, that is a failure.
  void finish() const;

 private:
  std::map<std::string, size_t> compared_;
  std::map<std::string, std::vector<std::string>> left_out_;  ///< By reason.
};

}  // namespace restkv::testing
