#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace restkv::eval {

/// Lowest and highest likely value.
struct Whisker {
  double low = 0;
  double high = 0;
};

struct Series {
  std::string name;
  std::vector<double> values;                         ///< Like the x axis; NaN where there is none.
  std::vector<std::optional<Whisker>> whiskers = {};  ///< Like the values, or none at all.
};

/// Curves over a list of names or numbers, evenly spaced. Every series has its own colour, marker
/// and dashes, and stands a little beside the others, so that equal ones can be seen.
struct LineChart {
  std::string title, subtitle, x_label;
  std::vector<std::string> x;
  std::vector<Series> series;
  Series full;               ///< A reference, drawn with dots; no name: none.
  bool logarithmic = false;  ///< The y axis; values must then be above 0.
  /// Ends of the y axis instead of those that the values need.
  std::optional<std::pair<double, double>> range = std::nullopt;
};

/// An SVG picture. It is narrow enough to be read on a phone, and has the legend below.
std::string line_chart(const LineChart& chart);

/// Several charts below each other under one heading.
std::string line_charts(std::string_view title, std::string_view subtitle,
                        std::span<const LineChart> charts);

}  // namespace restkv::eval
