#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace restkv::eval {

struct Series {
  std::string name;
  std::vector<double> values;  ///< Like the x axis; NaN where there is none.
};

/// Curves over a list of names or numbers, evenly spaced.
struct LineChart {
  std::string title, subtitle, x_label;
  std::vector<std::string> x;
  std::vector<Series> series;
  Series full;               ///< A reference, drawn with dots; no name: none.
  bool logarithmic = false;  ///< The y axis; values must then be above 0.
};

/// An SVG picture.
std::string line_chart(const LineChart& chart);

/// Several charts below each other under one heading.
std::string line_charts(std::string_view title, std::string_view subtitle,
                        std::span<const LineChart> charts);

}  // namespace restkv::eval
