#include "generate/token_text.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "base/text.h"

namespace restkv {
namespace {

TEST(TokenText, HandsOutWholeCharacters) {
  TokenText text({});
  EXPECT_EQ(text.push("a\xC3"), "a");
  EXPECT_EQ(text.push("\xA9"), "\u00E9");
  EXPECT_EQ(text.push("\xF0\x9F"), "");
  EXPECT_EQ(text.end(), "") << "a character that never ends";
  EXPECT_EQ(text.bytes(), "a\xC3\xA9\xF0\x9F");
}

TEST(TokenText, HoldsBackWhatMayBeTheBeginningOfAStop) {
  TokenText text({"\nQ:", "END"});
  EXPECT_EQ(text.push("one\n"), "one");
  EXPECT_EQ(text.push("Q"), "");
  EXPECT_EQ(text.push("X E"), "\nQX ");
  EXPECT_EQ(text.push("N"), "");
  EXPECT_EQ(text.push("D and more"), "");
  EXPECT_TRUE(text.stopped());
  EXPECT_EQ(text.bytes(), "one\nQX ");
}

TEST(TokenText, EndsBeforeTheFirstOfSeveralStops) {
  TokenText text({"later", "first"});
  EXPECT_EQ(text.push("a first and a later"), "a ");
  EXPECT_TRUE(text.stopped());
}

TEST(TokenText, GivesBackWhatWasHeldBackAtTheEnd) {
  TokenText text({"stop"});
  EXPECT_EQ(text.push("a sto"), "a ");
  EXPECT_FALSE(text.stopped());
  EXPECT_EQ(text.end(), "sto");
}

TEST(TokenText, DoesNotDependOnWhereTokensEnd) {
  std::mt19937 random(11);
  const std::string letters = "ab\xC3\xA9";
  for (size_t round = 0; round < 3000; ++round) {
    const auto word = [&](size_t most) {
      std::string result;
      const size_t size = 1 + random() % most;
      for (size_t i = 0; i < size; ++i) result += letters[random() % letters.size()];
      return result;
    };
    const std::vector<std::string> stops{word(4)};
    const std::string whole = word(40);
    const size_t stop = whole.find(stops[0]);
    const std::string expected = whole.substr(0, stop);

    TokenText text(stops);
    std::string given;
    for (size_t at = 0; at < whole.size() && !text.stopped();) {
      const size_t size = 1 + random() % 3;
      given += text.push(std::string_view(whole).substr(at, size));
      at += size;
      // Nothing is handed out that is not part of the result.
      ASSERT_EQ(given, replace_invalid_utf8(expected).substr(0, given.size()));
    }
    EXPECT_EQ(text.stopped(), stop != std::string::npos);
    if (!text.stopped()) given += text.end();
    EXPECT_EQ(text.bytes(), expected);
    const std::string valid = replace_invalid_utf8(expected);
    ASSERT_TRUE(given == valid || given + "\uFFFD" == valid)
        << "but for a character that never ends";
  }
}

}  // namespace
}  // namespace restkv
