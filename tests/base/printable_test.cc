#include "base/printable.h"

#include <gtest/gtest.h>

#include <string>

namespace restkv {
namespace {

TEST(Printable, KeepsText) {
  const std::string text = "caf\u00e9 \u4e2d\u6587 \u0627\u0644 \U0001F600\n\tend\r\n";
  EXPECT_EQ(printable(text), text);
}

TEST(Printable, ReplacesWhatATerminalObeys) {
  EXPECT_EQ(printable("\x1b]0;title\x07"), "?]0;title?");
  EXPECT_EQ(printable("a\rb\b\x7f"), "a?b??");
  EXPECT_EQ(printable("\u009b31m"), "?31m");  // CSI in one character
  EXPECT_EQ(printable("\u202egpj.exe\u2066x\u2069"), "?gpj.exe?x?");
  EXPECT_EQ(printable(std::string(1, '\0')), "?");
}

TEST(Printable, ReplacesBytesThatAreNotUtf8) {
  EXPECT_EQ(printable("\x9b"
                      "31m"),
            "?31m");  // CSI of terminals that read single bytes
  EXPECT_EQ(printable("\xC3<\xF0\x9F\x98"), "?<???");
  EXPECT_EQ(printable("\xC0\x9B", "-"), "--");
}

}  // namespace
}  // namespace restkv
