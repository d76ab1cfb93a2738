#include "report/line_chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <iterator>
#include <limits>
#include <regex>
#include <set>
#include <string>

#include "report/markup.h"

namespace restkv::eval {
namespace {

using testing::HasSubstr;
using testing::Not;

size_t count(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  return static_cast<size_t>(
      std::distance(std::sregex_iterator(text.begin(), text.end(), regex), {}));
}

LineChart two_equal_curves() {
  return {.title = "A title of <many> words that does not fit into one line of the picture",
          .subtitle = "a model",
          .x_label = "budget",
          .x = {"64", "128"},
          .series = {{"one", {20, 40}, {Whisker{10, 30}, std::nullopt}}, {"two", {20, 40}}},
          .full = {"full cache", {50, 50}}};
}

TEST(LineChart, EqualCurvesCanBeSeenBesideEachOther) {
  const std::string svg = line_chart(two_equal_curves());
  EXPECT_EQ(markup_error(svg), "");
  // Markers of the two: one in the legend, two on the curve, nowhere the same.
  std::set<std::string> places;
  std::set<std::string> shapes;
  const std::regex mark("<path d=\"(M[\\d.]+ [\\d.]+)([^\"]*)\" class=\"mark s\\d\"");
  for (std::sregex_iterator it(svg.begin(), svg.end(), mark), end; it != end; ++it) {
    places.insert((*it)[1]);
    shapes.insert((*it)[2]);
  }
  EXPECT_EQ(places.size(), 6U);
  EXPECT_EQ(shapes.size(), 2U);
  EXPECT_THAT(svg, HasSubstr("class=\"curve s0\""));
  EXPECT_THAT(svg, HasSubstr("class=\"curve s1 d1\"")) << "dashed";
}

TEST(LineChart, IntervalsAreBars) {
  const std::string svg = line_chart(two_equal_curves());
  EXPECT_EQ(count(svg, "class=\"bar s0\""), 1U);
  EXPECT_EQ(count(svg, "class=\"bar s1\""), 0U);
  EXPECT_THAT(svg, HasSubstr("one, 64: 20.00 (10.00 to 30.00)"));
  EXPECT_THAT(svg, HasSubstr("one, 128: 40.00<"));
}

TEST(LineChart, TheAxisIsThatOfTheValuesOrTheOneAskedFor) {
  LineChart chart = two_equal_curves();
  EXPECT_THAT(line_chart(chart), Not(HasSubstr(">100<")));
  chart.range = {0, 100};
  const std::string svg = line_chart(chart);
  for (const char* tick : {">0<", ">20<", ">100<"}) EXPECT_THAT(svg, HasSubstr(tick));
}

TEST(LineChart, TwentyEightSeriesLookDifferent) {
  LineChart chart{.title = {}, .subtitle = {}, .x_label = {}, .x = {"1"}, .series = {}, .full = {}};
  for (int i = 0; i < 28; ++i) chart.series.push_back({std::to_string(i), {1.0 * i}});
  const std::string svg = line_chart(chart);
  std::set<std::string> looks;
  const std::regex curve("class=\"(curve [^\"]*)\"");
  for (std::sregex_iterator it(svg.begin(), svg.end(), curve), end; it != end; ++it) {
    looks.insert((*it)[1]);
  }
  EXPECT_EQ(looks.size(), 28U);
}

TEST(LineChart, EverythingIsInsideThePicture) {
  const std::string svg = line_chart(two_equal_curves());
  double width = 0;
  double height = 0;
  ASSERT_EQ(
      std::sscanf(svg.c_str() + svg.find("viewBox"), "viewBox=\"0 0 %lf %lf", &width, &height), 2);
  EXPECT_LE(width, 560) << "it could not be read on a phone";
  const std::regex text("<text x=\"([\\d.]+)\" y=\"([\\d.]+)\"");
  size_t texts = 0;
  for (std::sregex_iterator it(svg.begin(), svg.end(), text), end; it != end; ++it, ++texts) {
    EXPECT_LE(std::stod((*it)[1]), width);
    EXPECT_LE(std::stod((*it)[2]), height);
  }
  EXPECT_GT(texts, 10U);
  EXPECT_EQ(count(svg, "class=\"title\""), 2U) << "two lines";
}

TEST(LineChart, MayBeEmpty) {
  EXPECT_EQ(markup_error(line_chart({})), "");
  EXPECT_EQ(markup_error(line_charts("a", "b", {})), "");
  const double none = std::numeric_limits<double>::quiet_NaN();
  LineChart chart = two_equal_curves();
  chart.series = {{"nothing", {none, none}}};
  EXPECT_EQ(markup_error(line_chart(chart)), "");
}

}  // namespace
}  // namespace restkv::eval
