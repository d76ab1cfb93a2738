#include "report/table.h"

#include <gtest/gtest.h>

#include <string>

namespace restkv::eval {
namespace {

Table wide_table() {
  return {.title = "T",
          .note = {},
          .labels = 1,
          .header = {"name", "first", "second", "third"},
          .rows = {{{"a"}, {"1"}, {"2", true}, {"3"}}, {{"b"}, {"4"}, {"5"}, {"6"}}}};
}

TEST(Table, ColumnsThatDoNotFitGoOnBelow) {
  EXPECT_EQ(table_text(wide_table(), 100),
            "name  first  second  third\n"
            "a         1      *2      3\n"
            "b         4       5      6\n");
  EXPECT_EQ(table_text(wide_table(), 19),
            "name  first  second\n"
            "a         1      *2\n"
            "b         4       5\n"
            "\n"
            "name  third\n"
            "a         3\n"
            "b         6\n");
  EXPECT_EQ(table_text(wide_table(), 1),
            "name  first\na         1\nb         4\n\nname  second\na         *2\nb          5\n\n"
            "name  third\na         3\nb         6\n")
      << "a column at least";
}

TEST(Table, NamesAloneAreATable) {
  EXPECT_EQ(
      table_text(
          {.title = {}, .note = {}, .labels = 2, .header = {"a", "b"}, .rows = {{{"1"}, {"2"}}}}),
      "a  b\n1  2\n");
}

TEST(Table, HasHeadingsForRowsAndColumns) {
  EXPECT_EQ(
      table_html({.title = "T & U",
                  .note = {},
                  .labels = 1,
                  .header = {"n", "v"},
                  .rows = {{{"a"}, {"1", true}}}}),
      "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"T &amp; U\"><table>\n"
      "<caption>T &amp; U</caption>\n"
      "<thead><tr><th scope=\"col\" class=\"name\">n</th><th scope=\"col\">v</th></tr></thead>\n"
      "<tbody>\n<tr><th scope=\"row\" class=\"name\">a</th><td><strong>1</strong></td></tr>\n"
      "</tbody></table></div>\n");
}

}  // namespace
}  // namespace restkv::eval
