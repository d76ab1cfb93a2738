#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "make_model/random_model.h"

namespace restkv::testing {

using TinyModel = RandomModel;
using TinyTensor = RandomTensor;

/// The real model of the tests (SmolLM2-135M-Instruct, Q4_1): the environment variable
/// RESTKV_TEST_MODEL, or the path used by script/bootstrap. Throws std::runtime_error if it is
/// missing or another model, because the tests expect this one's tokens and answers.
std::string test_model_path();

/// Gemma 3 270M (base): the environment variable RESTKV_GEMMA, or the path used by
/// `script/bootstrap
/// --with-gemma`. None if it is missing; its tests are then skipped with `kNoGemma`. Throws
/// std::runtime_error if the variable names no file, or for another model.
std::optional<std::string> gemma_path();
inline constexpr const char* kNoGemma =
    "Gemma 3 270M is not here; script/bootstrap --with-gemma fetches it";

/// A `llama` that is small enough to load thousands of variants in seconds.
TinyModel smallest_model();

/// A new folder that is removed with its contents at the end of the scope.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  [[nodiscard]] std::string file(const std::string& name) const { return (path_ / name).string(); }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace restkv::testing
