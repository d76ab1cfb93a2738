#include "report/svg.h"

#include <gtest/gtest.h>

#include "report/markup.h"

namespace restkv::eval {
namespace {

TEST(MarkupError, SeesBrokenMarkup) {
  EXPECT_EQ(markup_error("<a b=\"1\"><c/>x &amp; y</a>"), "");
  EXPECT_NE(markup_error("<a><b></a></b>"), "");
  EXPECT_NE(markup_error("<a>"), "");
  EXPECT_NE(markup_error("<a>x & y</a>"), "");
  EXPECT_NE(markup_error("<a>1 < 2</a>"), "");
  EXPECT_NE(markup_error("<a b=\"<\"/>"), "");
}

TEST(Escape, ReplacesMarkupCharacters) {
  EXPECT_EQ(escape("<a href=\"x\">'&'</a>"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
}

TEST(Escape, KeepsUtf8AndLineBreaks) {
  const std::string text = "caf\u00e9 \u2713 \U0001F600\n\tend";
  EXPECT_EQ(escape(text), text);
}

TEST(Escape, ReplacesWhatIsNotUtf8) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(escape("a\xC3"), "a" + r);                   // cut in the middle of a character
  EXPECT_EQ(escape("\xC3<"), r + "&lt;");                // the next character survives
  EXPECT_EQ(escape("\x80x"), r + "x");                   // continuation without a lead
  EXPECT_EQ(escape("\xC0\xBC"), r + r);                  // overlong '<'
  EXPECT_EQ(escape("\xE0\x80\xBC"), r + r + r);          // overlong '<'
  EXPECT_EQ(escape("\xED\xA0\x80"), r + r + r);          // surrogate
  EXPECT_EQ(escape("\xF4\x90\x80\x80"), r + r + r + r);  // beyond U+10FFFF
  EXPECT_EQ(escape(std::string_view("\0\x1b\x7f", 3)), r + r + r);  // control characters
}

TEST(Svg, IsWellFormedAndEscaped) {
  Svg svg(200, 100, "a <title> & more", ".x{fill:#000}");
  svg.rect(1, 2.5, 3, 4, "x", "tip \"<&>\"");
  svg.line(0, 0, 10, 10, "x");
  svg.path("M0 0h10", "x");
  svg.text(5, 6, "1 < 2 & 3", "x", -45);
  const std::string text = svg.str();
  EXPECT_EQ(markup_error(text), "") << text;
  EXPECT_NE(text.find("viewBox=\"0 0 200 100\""), std::string::npos);
  EXPECT_NE(text.find("<rect x=\"1\" y=\"2.5\" width=\"3\" height=\"4\""), std::string::npos);
  EXPECT_NE(text.find("<title>tip &quot;&lt;&amp;&gt;&quot;</title>"), std::string::npos);
  EXPECT_NE(text.find("M0 0L10 10"), std::string::npos);
  EXPECT_NE(text.find("rotate(-45 5 6)"), std::string::npos);
  EXPECT_NE(text.find("1 &lt; 2 &amp; 3"), std::string::npos);
}

}  // namespace
}  // namespace restkv::eval
