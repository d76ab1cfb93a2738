#include "eval/metrics/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace restkv::eval::text {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Text, InvalidBytesBecomeTheReplacementCharacter) {
  EXPECT_EQ(decode("a\xFF"), U"a\uFFFD");
  EXPECT_EQ(decode("\xC3"), U"\uFFFD");               // Cut off.
  EXPECT_EQ(decode("\xE2\x82z"), U"\uFFFDz");         // One for what could have begun a character.
  EXPECT_EQ(decode("\xC0\x80"), U"\uFFFD\uFFFD");     // Overlong.
  EXPECT_EQ(decode("\xED\xA0\x80").front(), 0xFFFD);  // A surrogate.
  EXPECT_EQ(decode(std::string("a\0b", 3)).size(), 3u);
}

TEST(Text, EncodesWhatItDecodes) {
  const std::string text = "naïve 日本 \U0001F600";
  EXPECT_EQ(encode(decode(text)), text);
  const std::u32string not_text = {0xD800, 0x110000};
  EXPECT_EQ(encode(not_text), "\uFFFD\uFFFD");
}

TEST(Text, CaseMappingsAreFull) {
  EXPECT_EQ(lower(U"İ"), U"i\u0307");
  EXPECT_EQ(lower(U"ΟΔΟΣ ΣΑ"), U"οδος σα");  // The final sigma is another letter.
  EXPECT_EQ(upper(U"straße ﬁ"), U"STRASSE FI");
  EXPECT_EQ(lower(U""), U"");
}

TEST(Text, ClassesOfCharacters) {
  for (const char32_t c : std::u32string_view(U"\t\n\v\f\r\x1C\x1F \x85\u00A0\u1680\u2009\u3000")) {
    EXPECT_TRUE(is_space(c)) << static_cast<uint32_t>(c);
  }
  for (const char32_t c : std::u32string_view(U"\0\x1B\u200B\uFEFF_a", 6)) {
    EXPECT_FALSE(is_space(c)) << static_cast<uint32_t>(c);
  }
  EXPECT_TRUE(is_digit(U'٣'));
  EXPECT_EQ(digit_value(U'٣'), 3);
  EXPECT_FALSE(is_digit(U'²'));
  EXPECT_TRUE(is_word(U'²'));
  EXPECT_TRUE(is_word(U'_'));
  EXPECT_TRUE(is_word(U'日'));
  EXPECT_FALSE(is_word(U'\u0301'));  // Unlike in Unicode's own word characters.
  EXPECT_FALSE(is_word(U'’'));
}

TEST(Text, SplitsAtRunsOfWhiteSpaceOrAtEachSeparator) {
  EXPECT_THAT(split(U" a\u3000\tb "), ElementsAre(U"a", U"b"));
  EXPECT_THAT(split(U" \n"), IsEmpty());
  EXPECT_THAT(split(U".a..b", U'.'), ElementsAre(U"", U"a", U"", U"b"));
  EXPECT_THAT(split(U"", U'.'), ElementsAre(U""));
  EXPECT_THAT(runs(U"12a٣", is_digit), ElementsAre(U"12", U"٣"));
  EXPECT_EQ(strip(U"\u00A0 a b\n"), U"a b");
  EXPECT_EQ(strip(U" \t"), U"");
  EXPECT_EQ(strip_left(U"\n\n a\n", U'\n'), U" a\n");
}

TEST(Text, BlanksOutAndCollapses) {
  EXPECT_EQ(blank_out(U"aaa</s>b", U"</s>"), U"aaa b");
  EXPECT_EQ(blank_out(U"aaa", U"aa"), U" a");
  EXPECT_EQ(blank_out(U"a", U""), U"a");
  EXPECT_EQ(collapse_spaces(U"  a   b\t\t "), U" a b\t\t ");
}

TEST(Text, RoundsTheExactValueHalfToEven) {
  EXPECT_EQ(round_to(0.125, 2), 0.12);
  EXPECT_EQ(round_to(0.375, 2), 0.38);
  EXPECT_EQ(round_to(2.675, 2), 2.67);  // 2.67499999...
  EXPECT_EQ(round_to(2.5, 0), 2);
  EXPECT_EQ(round_to(3.5, 0), 4);
  EXPECT_EQ(round_to(-0.5, 0), 0);
}

}  // namespace
}  // namespace restkv::eval::text
