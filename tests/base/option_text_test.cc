#include "base/option_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "restkv/error.h"
#include "support/refusal.h"

namespace restkv {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

TEST(OptionText, HasANameAndOptions) {
  const OptionText parts = parse_option_text("snapkv:kernel=5:profile=a=b:x=");
  EXPECT_EQ(parts.name, "snapkv");
  EXPECT_THAT(parts.options,
              ElementsAre(Pair("kernel", "5"), Pair("profile", "a=b"), Pair("x", "")));
  EXPECT_EQ(parse_option_text("full").name, "full");
  EXPECT_THAT(parse_option_text("full").options, IsEmpty());
  EXPECT_EQ(parse_option_text("").name, "");
}

TEST(OptionText, RefusesWhatHasNoValueAndWhatStandsTwice) {
  const auto refusal = [](const char* text) {
    return testing::refusal(ErrorCode::kInvalidArgument, [&] { parse_option_text(text); });
  };
  EXPECT_THAT(refusal("snapkv:kernel"), HasSubstr(R"("kernel" in "snapkv:kernel" has no value)"));
  EXPECT_THAT(refusal("snapkv:"), HasSubstr("has no value"));
  EXPECT_THAT(refusal("snapkv::kernel=5"), HasSubstr("has no value"));
  EXPECT_THAT(refusal("snapkv:kernel=5:window=8:kernel=7"), HasSubstr("\"kernel\" in"));
  EXPECT_THAT(refusal("snapkv:kernel=5:kernel=5"), HasSubstr("is repeated"));
}

}  // namespace
}  // namespace restkv
