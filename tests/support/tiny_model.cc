#include "support/tiny_model.h"

#include <stdlib.h>

#include <cstdlib>
#include <stdexcept>

namespace restkv::testing {

namespace {

std::string environment_or(const char* name, const char* fallback) {
  const char* variable = std::getenv(name);
  return variable != nullptr && *variable != '\0' ? variable : fallback;
}

}  // namespace

std::string test_model_path() {
  const std::string path = environment_or("RESTKV_MODEL", RESTKV_TEST_MODEL);
  if (!std::filesystem::is_regular_file(path)) {
    throw std::runtime_error("the test model " + path +
                             " is missing; run script/bootstrap or set RESTKV_MODEL");
  }
  return path;
}

std::optional<std::string> gemma_path() {
  const std::string path = environment_or("RESTKV_GEMMA", RESTKV_TEST_GEMMA);
  if (!std::filesystem::is_regular_file(path)) return std::nullopt;
  return path;
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
