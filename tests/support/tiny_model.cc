#include "support/tiny_model.h"

#include <stdlib.h>

#include <cstdlib>
#include <stdexcept>

namespace restkv::testing {

std::string test_model_path() {
  const char* variable = std::getenv("RESTKV_MODEL");
  const bool given = variable != nullptr && *variable != '\0';
  const std::string path = given ? variable : RESTKV_TEST_MODEL;
  if (!std::filesystem::is_regular_file(path)) {
    throw std::runtime_error("the test model " + path +
                             " is missing; run script/bootstrap or set RESTKV_MODEL");
  }
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
