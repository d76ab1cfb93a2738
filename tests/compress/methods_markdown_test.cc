// docs/methods.md says what the code's tables say.

#include "compress/methods_markdown.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "restkv/compress.h"

namespace restkv {
namespace {

std::string documentation() {
  std::ifstream file(std::filesystem::path(RESTKV_TEST_DATA_DIR) / "../../docs/methods.md");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(MethodsMarkdownTest, DocumentationHoldsTheGeneratedTables) {
  const std::string text = documentation();
  const std::string begin = "<!-- begin: restkv methods --markdown -->\n";
  const size_t first = text.find(begin);
  const size_t last = text.find("<!-- end -->");
  ASSERT_NE(first, std::string::npos);
  ASSERT_NE(last, std::string::npos);
  EXPECT_EQ(text.substr(first + begin.size(), last - first - begin.size()), methods_markdown())
      << "put the output of `restkv methods --markdown` between the markers in docs/methods.md";
}

TEST(MethodsMarkdownTest, EveryMethodAndAllocationHasASection) {
  const std::string text = documentation();
  for (const Method& method : methods()) {
    EXPECT_THAT(text, ::testing::HasSubstr("\n### " + std::string(method.name) + "\n"));
  }
  for (const Allocation& allocation : allocations()) {
    EXPECT_THAT(text, ::testing::HasSubstr("\n### " + std::string(allocation.name) + "\n"));
  }
}

}  // namespace
}  // namespace restkv
