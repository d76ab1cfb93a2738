// Names of models at a hub, right and wrong.
#include "hub/hub_name.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "restkv/error.h"
#include "support/refusal.h"

namespace restkv::hub {
namespace {

using ::restkv::testing::refusal;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(HubName, HasAPlaceAndMayNameAModelThere) {
  const HubName plain = parse_hub_name("hf:some-owner/Repo_1.5-GGUF");
  EXPECT_EQ(plain.owner, "some-owner");
  EXPECT_EQ(plain.repository, "Repo_1.5-GGUF");
  EXPECT_EQ(plain.which, "");
  EXPECT_EQ(plain.place(), "some-owner/Repo_1.5-GGUF");
  const HubName quantised = parse_hub_name("hf:a/b:Q4_K_M");
  EXPECT_EQ(quantised.which, "Q4_K_M");
  EXPECT_FALSE(quantised.names_file());
  const HubName file = parse_hub_name("hf:a/b:Q8_0/model v2-00001-of-00002.gguf");
  EXPECT_EQ(file.which, "Q8_0/model v2-00001-of-00002.gguf");
  EXPECT_TRUE(file.names_file());
  for (const char* text : {"hf:a/b", "hf:a/b:Q4_K_M", "hf:a/b:c/d.gguf"}) {
    EXPECT_EQ(parse_hub_name(text).text(), text);
  }
  EXPECT_TRUE(is_hub_name("hf:"));
  EXPECT_FALSE(is_hub_name("hf/model.gguf"));
}

TEST(HubName, RefusesWhatCouldLeadElsewhere) {
  for (const char* text : {"hf:",
                           "hf:a",
                           "hf:a/",
                           "hf:/b",
                           "hf:a/b/c",
                           "hf:../b",
                           "hf:a/..",
                           "hf:a/.b",
                           "hf:a b/c",
                           "hf:a/b?x",
                           "hf:a/b:",
                           "hf:a/b:Q4 K",
                           "hf:a/b:../x.gguf",
                           "hf:a/b:/x.gguf",
                           "hf:a/b:x/../y.gguf",
                           "hf:a/b:.gguf",
                           "hf:a/b:c\\d.gguf",
                           "hf:a/b:x\n.gguf",
                           "hf:a/b:c/d",
                           "hf:a/\xc3\xa4",
                           "a/b"}) {
    EXPECT_THAT(refusal(ErrorCode::kInvalidArgument, [&] { (void)parse_hub_name(text); }),
                AllOf(HasSubstr(text), HasSubstr("expected a name like hf:owner/repository")))
        << text;
  }
  EXPECT_THAT(refusal(ErrorCode::kInvalidArgument,
                      [] { (void)parse_hub_name("hf:a/" + std::string(97, 'b')); }),
              HasSubstr("expected a name"));
}

TEST(SafePath, StaysBelowItsFolder) {
  for (const char* path : {"a.gguf", "a/b c/d.gguf", "a..b"}) EXPECT_TRUE(is_safe_path(path));
  for (const char* path : {"", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/.hidden", "a\tb",
                           "a\\b", "\xc3\xa4"}) {
    EXPECT_FALSE(is_safe_path(path)) << path;
  }
  EXPECT_FALSE(is_safe_path(std::string(201, 'a')));
}

}  // namespace
}  // namespace restkv::hub
