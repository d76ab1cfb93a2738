#include "report/heat_chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <set>
#include <string>

#include "report/markup.h"

namespace restkv::eval {
namespace {

using testing::HasSubstr;
using testing::Not;

/// Panels of so many columns each, with two rows of "12".
HeatChart chart_of(size_t panels, size_t columns, double narrowest) {
  HeatChart chart{.title = "A title",
                  .subtitle = "of <tests>",
                  .keys = {{{.share = 1, .text = "77"}, "a key"}},
                  .note = "a note",
                  .rows = {"0%", "100%"},
                  .narrowest = narrowest,
                  .panels = {}};
  for (size_t p = 0; p < panels; ++p) {
    HeatPanel& panel = chart.panels.emplace_back();
    panel.name = "panel" + std::to_string(p);
    for (size_t c = 0; c < columns; ++c) {
      const HeatSquare square{.share = 0.6, .text = "12"};
      panel.columns.push_back(
          {.name = std::to_string(1000 * (c + 1)), .squares = {square, square}});
    }
  }
  return chart;
}

size_t count(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  return static_cast<size_t>(
      std::distance(std::sregex_iterator(text.begin(), text.end(), regex), {}));
}

TEST(HeatChart, SquaresAreAsWideAsTheLineHasRoomFor) {
  EXPECT_EQ(count(heat_chart(chart_of(2, 3, 36)), "width=\"64\" height=\"26\" class=\"cell h6\""),
            12U);
  EXPECT_EQ(count(heat_chart(chart_of(6, 4, 36)), "width=\"39\" height=\"26\" class=\"cell h6\""),
            48U);
  EXPECT_EQ(count(heat_chart(chart_of(20, 4, 36)), "width=\"36\" height=\"26\" class=\"cell h6\""),
            160U);
}

TEST(HeatChart, NarrowSquaresHaveColoursAloneAndFewNames) {
  const std::string svg = heat_chart(chart_of(3, 150, 3));
  EXPECT_EQ(markup_error(svg), "");
  EXPECT_EQ(count(svg, "class=\"cell h6\""), 900U);
  EXPECT_THAT(svg, Not(HasSubstr(">12<")));
  EXPECT_THAT(svg, HasSubstr(">1000<"));
  EXPECT_THAT(svg, Not(HasSubstr(">2000<")));
  EXPECT_THAT(svg, HasSubstr(">77<"));
}

TEST(HeatChart, LinesAreOfAboutTheSameLength) {
  // Seven panels of 200 pixels fit four and three, not five and two.
  const std::string svg = heat_chart(chart_of(7, 5, 40));
  std::map<std::string, size_t> panels;
  const std::regex name("<text x=\"[\\d.]+\" y=\"([\\d.]+)\" class=\"strong\">panel");
  for (std::sregex_iterator it(svg.begin(), svg.end(), name), end; it != end; ++it) {
    ++panels[(*it)[1]];
  }
  std::multiset<size_t> lengths;
  for (const auto& [y, count] : panels) lengths.insert(count);
  EXPECT_EQ(lengths, (std::multiset<size_t>{3, 4}));
}

TEST(HeatChart, TablesHaveARowForEachRowOrForEachWord) {
  HeatChart chart = chart_of(1, 3, 36);
  chart.panels[0].columns[0].squares[0].tooltip = "more <here>";
  const std::string numbers = heat_html(chart, "x");
  EXPECT_EQ(markup_error(numbers), "");
  EXPECT_EQ(count(numbers, "<th scope=\"row\">"), 2U);
  EXPECT_EQ(count(numbers, "<th scope=\"col\">"), 3U);
  EXPECT_THAT(numbers, HasSubstr("popovertarget=\"x-1\""));
  EXPECT_THAT(numbers, HasSubstr("id=\"x-1\">more &lt;here&gt;</div>"));
  chart.turned = true;
  const std::string words = heat_html(chart, "x");
  EXPECT_EQ(count(words, "<th scope=\"row\">"), 3U);
  EXPECT_EQ(count(words, "<th scope=\"col\">"), 2U);
}

TEST(HeatChart, MayBeEmpty) {
  EXPECT_EQ(markup_error(heat_chart({})), "");
  EXPECT_EQ(markup_error("<main>" + heat_html({}, "x") + "</main>"), "");
}

}  // namespace
}  // namespace restkv::eval
