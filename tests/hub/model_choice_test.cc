// Which files of a repository a name means.
#include "hub/model_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "restkv/error.h"
#include "support/refusal.h"

namespace restkv::hub {
namespace {

using ::restkv::testing::refusal;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> chosen(const std::string& name, const std::vector<std::string>& paths) {
  std::vector<HubFile> files;
  for (const std::string& path : paths) {
    files.push_back({.path = path, .bytes = 1, .sha256 = std::string(64, '0')});
  }
  std::vector<std::string> names;
  for (const HubFile& file : choose_model(parse_hub_name(name), files)) names.push_back(file.path);
  return names;
}

std::string refused(const std::string& name, const std::vector<std::string>& paths) {
  return refusal(ErrorCode::kInput, [&] { chosen(name, paths); });
}

TEST(ModelChoice, TakesTheQuantisationThatIsNamed) {
  const std::vector<std::string> paths{"M-Q4_K_M.gguf", "M-Q4_K_S.gguf", "M-UD-Q4_K_XL.gguf",
                                       "M-Q4_0.gguf",   "M.q8_0.gguf",   "M-IQ4_NL.gguf",
                                       "M-BF16.gguf",   "M-F16.gguf"};
  EXPECT_THAT(chosen("hf:a/b:Q4_K_S", paths), ElementsAre("M-Q4_K_S.gguf"));
  EXPECT_THAT(chosen("hf:a/b:q4_k_s", paths), ElementsAre("M-Q4_K_S.gguf"));
  EXPECT_THAT(chosen("hf:a/b:Q8_0", paths), ElementsAre("M.q8_0.gguf"));
  EXPECT_THAT(chosen("hf:a/b:Q4_K_XL", paths), ElementsAre("M-UD-Q4_K_XL.gguf"));
  EXPECT_THAT(chosen("hf:a/b:F16", paths), ElementsAre("M-F16.gguf"));
  EXPECT_THAT(chosen("hf:a/b:M-Q4_0.gguf", paths), ElementsAre("M-Q4_0.gguf"));
  EXPECT_THAT(
      refused("hf:a/b:Q4_K", paths),
      AllOf(HasSubstr("hf:a/b:Q4_K is not there; the repository has"), HasSubstr("M-Q4_K_M.gguf")));
  EXPECT_THAT(refused("hf:a/b:m-q4_0.gguf", paths), HasSubstr("is not there"));
}

TEST(ModelChoice, HasAUsualOne) {
  EXPECT_THAT(chosen("hf:a/b", {"M-Q8_0.gguf", "M-Q4_K_M.gguf", "M-F16.gguf"}),
              ElementsAre("M-Q4_K_M.gguf"));
  EXPECT_THAT(chosen("hf:a/b", {"M-Q8_0.gguf", "M-F16.gguf"}), ElementsAre("M-Q8_0.gguf"));
  EXPECT_THAT(chosen("hf:a/b", {"only.gguf", "mmproj-F16.gguf", "imatrix_M.gguf", "README.md"}),
              ElementsAre("only.gguf"));
  EXPECT_THAT(
      refused("hf:a/b", {"M-Q2_K.gguf", "M-F16.gguf"}),
      AllOf(HasSubstr("may be any of M-F16.gguf, M-Q2_K.gguf"), HasSubstr("hf:a/b:M-F16.gguf")));
  EXPECT_THAT(refused("hf:a/b:Q8_0", {"A-Q8_0.gguf", "B-Q8_0.gguf"}), HasSubstr("may be any of"));
  EXPECT_THAT(refused("hf:a/b", {"model.safetensors", "mmproj-F16.gguf"}),
              HasSubstr("hf:a/b has no GGUF models"));
  std::vector<std::string> many;
  for (int i = 10; i < 50; ++i) many.push_back("M-" + std::to_string(i) + ".gguf");
  EXPECT_THAT(refused("hf:a/b", many), HasSubstr("M-29.gguf and 20 more; name one"));
}

TEST(ModelChoice, TakesAllPartsOfASplitOne) {
  const std::vector<std::string> paths{
      "Q8_0/M-Q8_0-00002-of-00003.gguf", "Q8_0/M-Q8_0-00001-of-00003.gguf",
      "Q8_0/M-Q8_0-00003-of-00003.gguf", "M-Q4_K_M.gguf", "BF16/M-BF16-00001-of-00002.gguf"};
  EXPECT_THAT(chosen("hf:a/b:Q8_0", paths), ElementsAre(paths[1], paths[0], paths[2]));
  EXPECT_THAT(chosen("hf:a/b:" + paths[1], paths), ElementsAre(paths[1], paths[0], paths[2]));
  EXPECT_THAT(chosen("hf:a/b:M-Q8_0-00001-of-00003.gguf", paths),
              ElementsAre(paths[1], paths[0], paths[2]));
  EXPECT_THAT(chosen("hf:a/b", paths), ElementsAre("M-Q4_K_M.gguf"));
  EXPECT_THAT(refused("hf:a/b:BF16", paths),
              HasSubstr("is in 2 parts, of which the repository has 1"));
}

}  // namespace
}  // namespace restkv::hub
