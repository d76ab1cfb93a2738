#include "support/tiny_model.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <cstdint>
#include <cstdlib>
#include <stdexcept>

namespace restkv::testing {

namespace {

/// A model whose answers the tests know, at the path of `variable` or at the usual path. None if it
/// does not exist. Another file is refused, and so is a variable that names no file.
std::optional<std::string> known_model(const char* variable, const char* usual_path,
                                       uintmax_t bytes, const char* name) {
  const char* named = std::getenv(variable);
  const bool set = named != nullptr && *named != '\0';
  const std::string path = set ? named : usual_path;
  if (!std::filesystem::is_regular_file(path)) {
    if (!set) return std::nullopt;
    throw std::runtime_error(fmt::format("{} names {}, which is not there", variable, path));
  }
  if (std::filesystem::file_size(path) != bytes) {
    throw std::runtime_error(
        fmt::format("{} has {} bytes and so is not {} ({} bytes), whose answers the tests know",
                    path, std::filesystem::file_size(path), name, bytes));
  }
  return path;
}

}  // namespace

std::string test_model_path() {
  const auto path = known_model("RESTKV_TEST_MODEL", RESTKV_TEST_MODEL, 98362432,
                                "SmolLM2-135M-Instruct in Q4_1");
  if (path) return *path;
  throw std::runtime_error("the test model " RESTKV_TEST_MODEL
                           " is missing; run script/bootstrap or set RESTKV_TEST_MODEL");
}

std::optional<std::string> gemma_path() {
  return known_model("RESTKV_GEMMA", RESTKV_TEST_GEMMA, 253113024, "Gemma 3 270M in Q4_K_M");
}

TinyModel smallest_model() {
  TinyModel model;
  model.layers = 1;
  model.width = 32;
  model.ffn_width = 32;
  model.head_dim = 8;
  model.vocabulary = 16;
  return model;
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "restkv-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot create " + pattern);
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace restkv::testing
