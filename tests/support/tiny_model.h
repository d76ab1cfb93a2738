#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "make_model/random_model.h"

namespace restkv::testing {

using TinyModel = RandomModel;
using TinyTensor = RandomTensor;

/// The real model of the tests (SmolLM2-135M-Instruct, Q4_1): the environment variable
/// RESTKV_MODEL, or where the set-up puts it. Throws std::runtime_error if there is none, or
/// another model, since the tests know this one's tokens and answers.
std::string test_model_path();

/// Gemma 3 270M (base): the environment variable RESTKV_GEMMA, or where `script/bootstrap
/// --with-gemma` puts it. None without it: its tests are to be skipped with `kNoGemma`. Throws
/// std::runtime_error if the variable names no file, or there is another model.
std::optional<std::string> gemma_path();
inline constexpr const char* kNoGemma =
    "Gemma 3 270M is not here; script/bootstrap --with-gemma fetches it";

/// A `llama` so small that thousands of variants load in seconds.
TinyModel smallest_model();

/// A new folder that is removed, with what is in it, at the end of the scope.
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
