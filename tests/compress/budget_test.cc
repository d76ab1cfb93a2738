#include "restkv/budget.h"

#include <gtest/gtest.h>

#include <string>

#include "support/refusal.h"

namespace restkv {
namespace {

TEST(BudgetTest, IsANumberOrAShare) {
  EXPECT_EQ(parse_budget("512").of(10), 512);
  EXPECT_EQ(parse_budget("12.5%").of(1000), 125);
  EXPECT_EQ(parse_budget("12.5%").of(1007), 125) << "rounded down";
  EXPECT_EQ(parse_budget("0.7%").of(1000), 7) << "no less because of binary fractions";
  EXPECT_EQ(parse_budget("29%").of(100), 29);
  EXPECT_EQ(parse_budget("1%").of(3), 1) << "never nothing";
  EXPECT_EQ(parse_budget("100%").of(77), 77);
}

TEST(BudgetTest, WritesWhatItReads) {
  for (const char* text : {"1", "512", "25%", "6.25%", "0.5%", "100%"}) {
    EXPECT_EQ(parse_budget(text).text(), text);
  }
}

TEST(BudgetTest, NumbersStandBeforeShares) {
  EXPECT_LT(parse_budget("64"), parse_budget("128"));
  EXPECT_LT(parse_budget("100000"), parse_budget("1%"));
  EXPECT_LT(parse_budget("6.25%"), parse_budget("50%"));
}

TEST(BudgetTest, RefusesAllElse) {
  for (const char* text : {"", "%", "0", "-1", "0%", "101%", "-5%", "nan%", "1e3x", "12 %", "5%%",
                           "1.5", "99999999999"}) {
    const std::string message =
        testing::refusal(ErrorCode::kInvalidArgument, [&] { parse_budget(text); });
    EXPECT_NE(message.find('"' + std::string(text) + '"'), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace restkv
