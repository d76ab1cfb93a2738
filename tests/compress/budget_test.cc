#include "restkv/budget.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "restkv/compress.h"
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
  for (const char* text :
       {"1", "512", "25%", "6.25%", "0.5%", "100%", "auto:0.05", "auto:0.1:2048"}) {
    EXPECT_EQ(parse_budget(text).text(), text);
  }
}

TEST(BudgetTest, MayBeChosen) {
  const Budget budget = parse_budget("auto");
  EXPECT_EQ(budget, parse_budget("auto:0.05"));
  EXPECT_EQ(budget.of(100), std::numeric_limits<int>::max()) << "nothing bounds it";
  EXPECT_EQ(parse_budget("auto:0.1:2048").of(100), 2048);

  CompressionOptions options = default_options("snapkv");
  EXPECT_EQ(budget_of(options), parse_budget("1024"));
  for (const char* text : {"auto:0.2", "auto:0.2:300"}) {
    set_budget(options, parse_budget(text), 0);
    EXPECT_TRUE(chooses_budget(options));
    EXPECT_EQ(budget_of(options).text(), text);
  }
  set_budget(options, parse_budget("25%"), 1000);
  EXPECT_EQ(budget_of(options).text(), "auto:0.2:250") << "a share bounds it, too";
}

TEST(BudgetTest, NumbersStandBeforeShares) {
  EXPECT_LT(Budget(), parse_budget("auto"));
  EXPECT_LT(parse_budget("auto:0.02"), parse_budget("auto:0.05"));
  EXPECT_LT(parse_budget("auto"), parse_budget("64"));
  EXPECT_LT(parse_budget("64"), parse_budget("128"));
  EXPECT_LT(parse_budget("100000"), parse_budget("1%"));
  EXPECT_LT(parse_budget("6.25%"), parse_budget("50%"));
}

// For some 1,000 and for others 1,024.
TEST(BudgetTest, DoesNotGuessWhatAThousandIs) {
  for (const char* text : {"2k", "2K"}) {
    const std::string message =
        testing::refusal(ErrorCode::kInvalidArgument, [&] { parse_budget(text); });
    EXPECT_NE(message.find("which may mean 2000 or 2048 tokens"), std::string::npos) << message;
  }
}

TEST(BudgetTest, RefusesAllElse) {
  for (const char* text :
       {"",          "%",      "0",        "-1",         "0%",        "101%",        "-5%",
        "nan%",      "1e3x",   "12 %",     "5%%",        "1.5",       "99999999999", "auto:",
        "auto:0",    "auto:1", "auto:nan", "auto0.1",    "auto:0.1:", "auto:0.1:0",  "auto:0.1:5%",
        "automatic", "k",      "-1k",      "2000000000k"}) {
    const std::string message =
        testing::refusal(ErrorCode::kInvalidArgument, [&] { parse_budget(text); });
    EXPECT_NE(message.find('"' + std::string(text) + '"'), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace restkv
