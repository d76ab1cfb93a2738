#include "base/closest_name.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace restkv {
namespace {

const std::vector<std::string_view> kNames{"run",          "ask",          "chat",   "--model",
                                           "--max-tokens", "--max-budget", "snapkv", "restkv"};

TEST(ClosestName, FindsWhatTypingErrorsHaveMade) {
  EXPECT_EQ(closest_name("rnu", kNames), "run");          // swapped
  EXPECT_EQ(closest_name("--modle", kNames), "--model");  // swapped
  EXPECT_EQ(closest_name("snapk", kNames), "snapkv");     // missing
  EXPECT_EQ(closest_name("chatt", kNames), "chat");       // too much
  EXPECT_EQ(closest_name("resdkv", kNames), "restkv");    // wrong
  EXPECT_EQ(closest_name("SnapKV", kNames), "snapkv");    // case
  EXPECT_EQ(closest_name("--max_tokens", kNames), "--max-tokens");
}

TEST(ClosestName, CompletesABeginningThatOnlyOneNameHas) {
  EXPECT_EQ(closest_name("--mod", kNames), "--model");
  EXPECT_EQ(closest_name("--max", kNames), std::nullopt);  // two have it
}

TEST(ClosestName, GuessesNothingFarFetched) {
  for (const char* text : {"", "x", "frobnicate", "--frobnicate", "h2o", "serve"}) {
    EXPECT_EQ(closest_name(text, kNames), std::nullopt) << text;
  }
  EXPECT_EQ(closest_name("run", {}), std::nullopt);
}

TEST(ClosestName, StandsInBrackets) {
  EXPECT_EQ(did_you_mean("rnu", kNames), " (did you mean run?)");
  EXPECT_EQ(did_you_mean("serve", kNames), "");
}

TEST(SameName, LooksPastCaseAndUnderscores) {
  EXPECT_TRUE(same_name("SnapKV", "snapkv"));
  EXPECT_TRUE(same_name("kvzip_plus", "KVzip-plus"));
  EXPECT_FALSE(same_name("snapkv", "snapk"));
}

}  // namespace
}  // namespace restkv
