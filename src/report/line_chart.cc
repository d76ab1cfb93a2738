#include "report/line_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <tuple>

#include "report/chart_style.h"
#include "report/svg.h"

namespace restkv::eval {
namespace {

// There are so many colours (.s0 to .s6) and markers, and dashes (.d1 to .d3, after solid lines):
// 28 series are different.
constexpr size_t kColours = 7;
constexpr size_t kDashes = 4;

constexpr double kWidth = 460;
constexpr double kMargin = 16;
constexpr double kLeft = 58;
constexpr double kPlotWidth = kWidth - kLeft - kMargin;
constexpr double kPlotHeight = 260;
constexpr double kTitleLine = 22;
constexpr double kTextLine = 19;
constexpr double kLegendLine = 22;
constexpr double kAxis = 58;  // below the plot: numbers and what they are

/// Pixels of a text of this size, about.
double text_width(std::string_view text, double letter = 7.2) {
  return letter * static_cast<double>(text.size());
}

/// The words in lines of at most `width` pixels; a longer word has a line of its own.
std::vector<std::string> lines_of(std::string_view text, double width, double letter) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t space = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, space);
    text.remove_prefix(std::min(space + 1, text.size()));
    if (lines.empty() ||
        text_width(lines.back(), letter) + text_width(word, letter) + letter > width) {
      lines.emplace_back(word);
    } else {
      lines.back() += ' ';
      lines.back() += word;
    }
  }
  return lines;
}

/// 1, 2 or 5 times a power of ten: about six steps for the range.
double round_step(double range) {
  const double rough = range / 6;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double digit : {1.0, 2.0, 5.0}) {
    if (digit * power >= rough) return digit * power;
  }
  return 10 * power;
}

/// The y axis: values with grid lines, and the map of values to [0, 1] between the lowest and the
/// highest of them.
struct Axis {
  bool logarithmic;
  std::vector<double> ticks;

  [[nodiscard]] double place(double value) const {
    const auto scale = [&](double x) { return logarithmic ? std::log10(x) : x; };
    const double low = scale(ticks.front());
    return (scale(value) - low) / (scale(ticks.back()) - low);
  }
};

Axis make_axis(const LineChart& chart) {
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  const auto include = [&](const Series& series) {
    for (const double value : series.values) {
      if (!std::isfinite(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
  };
  include(chart.full);
  for (const Series& series : chart.series) {
    include(series);
    for (const auto& whisker : series.whiskers) {
      if (!whisker) continue;
      low = std::min(low, whisker->low);
      high = std::max(high, whisker->high);
    }
  }
  if (chart.range) std::tie(low, high) = *chart.range;
  Axis axis{chart.logarithmic, {}};
  if (chart.logarithmic) {
    if (!(low <= high)) low = high = 1;
    const double first = std::floor(std::log10(low));
    const double last = std::max(std::ceil(std::log10(high)), first + 1);
    for (int i = 0; first + i <= last; ++i) axis.ticks.push_back(std::pow(10, first + i));
    return axis;
  }
  if (!(low <= high)) low = high = 0;
  const double step = round_step(std::max(high - low, std::max(std::abs(high), 1.0) * 0.02));
  low = std::floor(low / step) * step;
  high = std::max(std::ceil(high / step) * step, low + step);
  const auto steps = static_cast<int>(std::lround((high - low) / step));
  for (int t = 0; t <= steps; ++t) axis.ticks.push_back(low + step * t);
  return axis;
}

/// Where a chart's parts stand, from its top.
struct Layout {
  std::vector<std::string> title, subtitle;
  double plot = 0;    ///< Top of the plot.
  double legend = 0;  ///< Middle of the legend's first line.
  double height = 0;
  std::vector<std::pair<double, double>> entries;  ///< x and line of the legend's entries.
};

Layout layout_of(const LineChart& chart) {
  Layout layout;
  layout.title = lines_of(chart.title, kWidth - 2 * kMargin, 9);
  layout.subtitle = lines_of(chart.subtitle, kWidth - 2 * kMargin, 7.2);
  layout.plot = 20 + kTitleLine * static_cast<double>(layout.title.size()) +
                kTextLine * static_cast<double>(layout.subtitle.size());
  layout.legend = layout.plot + kPlotHeight + kAxis + 12;
  double x = kMargin;
  double line = 0;
  const auto add = [&](const std::string& name) {
    const double width = 46 + text_width(name);
    if (x > kMargin && x + width > kWidth - kMargin) {
      x = kMargin;
      ++line;
    }
    layout.entries.emplace_back(x, line);
    x += width + 14;
  };
  if (!chart.full.name.empty()) add(chart.full.name);
  for (const Series& series : chart.series) add(series.name);
  layout.height = layout.legend + kLegendLine * (layout.entries.empty() ? 0 : line + 1) + 4;
  return layout;
}

/// Markers of the series, drawn about (0, 0).
std::string marker(size_t series, double x, double y) {
  constexpr std::array<std::string_view, kColours> kShapes = {
      "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",               // a circle
      "m-4 -4h8v8h-8z",                                              // a square
      "m0 -5.5l5.5 9.5h-11z",                                        // a triangle
      "m0 -6l5 6l-5 6l-5 -6z",                                       // a diamond
      "m0 5.5l5.5 -9.5h-11z",                                        // a triangle upside down
      "m-1.6 -5h3.2v3.4h3.4v3.2h-3.4v3.4h-3.2v-3.4h-3.4v-3.2h3.4z",  // a plus
      "m-5 -5l10 10m0 -10l-10 10",                                   // a cross
  };
  return fmt::format("M{:g} {:g}{}", x, y, kShapes[series % kColours]);
}

void draw_chart(Svg& svg, double y, const LineChart& chart) {
  const Axis axis = make_axis(chart);
  const Layout layout = layout_of(chart);
  const double top = y + layout.plot;
  const double bottom = top + kPlotHeight;
  const double slot = kPlotWidth / static_cast<double>(std::max<size_t>(chart.x.size(), 1));
  const auto x_of = [&](size_t i) { return kLeft + slot * (static_cast<double>(i) + 0.5); };
  const auto y_of = [&](double value) { return bottom - kPlotHeight * axis.place(value); };

  double line = y + 14 + kTitleLine / 2;
  for (const std::string& text : layout.title) {
    svg.text(kMargin, line, text, "title");
    line += kTitleLine;
  }
  for (const std::string& text : layout.subtitle) {
    svg.text(kMargin, line - 2, text, "muted");
    line += kTextLine;
  }
  for (const double value : axis.ticks) {
    svg.line(kLeft, y_of(value), kLeft + kPlotWidth, y_of(value), "grid");
    svg.text(kLeft - 8, y_of(value) + 4, fmt::format("{:.6g}", std::abs(value) < 1e-9 ? 0 : value),
             "end muted");
  }
  svg.line(kLeft, bottom, kLeft + kPlotWidth, bottom, "axis");
  double labelled = -kWidth;
  for (size_t i = 0; i < chart.x.size(); ++i) {
    svg.line(x_of(i), bottom, x_of(i), bottom + 5, "axis");
    if (x_of(i) - labelled < text_width(chart.x[i]) + 4) continue;
    labelled = x_of(i);
    svg.text(x_of(i), bottom + 21, chart.x[i], "middle");
  }
  svg.text(kLeft + kPlotWidth / 2, bottom + 44, chart.x_label, "middle muted");

  size_t entry = 0;
  const auto place_of_entry = [&] {
    const auto [x, row] = layout.entries[entry++];
    return std::pair(x, y + layout.legend + kLegendLine * row);
  };
  const auto curve = [&](const Series& series, double shift, const std::string& looks) {
    std::string path;
    bool pen_down = false;
    for (size_t i = 0; i < series.values.size(); ++i) {
      if (!std::isfinite(series.values[i])) {
        pen_down = false;
        continue;
      }
      path +=
          fmt::format("{}{:g} {:g}", pen_down ? "L" : "M", x_of(i) + shift, y_of(series.values[i]));
      pen_down = true;
    }
    if (!path.empty()) svg.path(path, looks);
  };
  const auto tooltips = [&](const Series& series, double shift) {
    for (size_t i = 0; i < series.values.size(); ++i) {
      if (!std::isfinite(series.values[i])) continue;
      std::string text = fmt::format("{}, {}: {:.2f}", series.name, chart.x[i], series.values[i]);
      if (i < series.whiskers.size() && series.whiskers[i]) {
        text +=
            fmt::format(" ({:.2f} to {:.2f})", series.whiskers[i]->low, series.whiskers[i]->high);
      }
      svg.rect(x_of(i) + shift - 8, y_of(series.values[i]) - 8, 16, 16, "hit", text);
    }
  };
  if (!chart.full.name.empty()) {
    curve(chart.full, 0, "full");
    const auto [x, row] = place_of_entry();
    svg.line(x, row, x + 32, row, "full");
    svg.text(x + 40, row + 4, chart.full.name, "");
    tooltips(chart.full, 0);
  }
  const auto count = static_cast<double>(chart.series.size());
  const double step = std::min(7.0, 0.6 * slot / std::max(count, 1.0));
  for (size_t s = 0; s < chart.series.size(); ++s) {
    const Series& series = chart.series[s];
    const double shift = step * (static_cast<double>(s) - (count - 1) / 2);
    const std::string colour = fmt::format("s{}", s % kColours);
    const size_t dashes = (s % kColours + s / kColours) % kDashes;
    const std::string looks =
        fmt::format("curve {}{}", colour, dashes == 0 ? "" : fmt::format(" d{}", dashes));
    curve(series, shift, looks);
    for (size_t i = 0; i < series.values.size(); ++i) {
      if (!std::isfinite(series.values[i])) continue;
      const double px = x_of(i) + shift;
      if (i < series.whiskers.size() && series.whiskers[i]) {
        const double low = y_of(series.whiskers[i]->low);
        const double high = y_of(series.whiskers[i]->high);
        svg.path(fmt::format("M{0:g} {1:g}h6m-3 0L{2:g} {3:g}m-3 0h6", px - 3, low, px, high),
                 "bar " + colour);
      }
      svg.path(marker(s, px, y_of(series.values[i])), "mark " + colour);
    }
    tooltips(series, shift);
    const auto [x, row] = place_of_entry();
    svg.line(x, row, x + 32, row, looks);
    svg.path(marker(s, x + 16, row), "mark " + colour);
    svg.text(x + 40, row + 4, series.name, "");
  }
}

}  // namespace

std::string line_chart(const LineChart& chart) {
  const double height = layout_of(chart).height;
  Svg svg(kWidth, height, chart.title, kChartStyle);
  svg.rect(0, 0, kWidth, height, "paper");
  draw_chart(svg, 0, chart);
  return svg.str();
}

std::string line_charts(std::string_view title, std::string_view subtitle,
                        std::span<const LineChart> charts) {
  const auto lines = lines_of(subtitle, kWidth - 2 * kMargin, 7.2);
  const double heading = 40 + kTextLine * static_cast<double>(lines.size());
  double height = heading;
  for (const LineChart& chart : charts) height += layout_of(chart).height;
  Svg svg(kWidth, height, title, kChartStyle);
  svg.rect(0, 0, kWidth, height, "paper");
  svg.text(kMargin, 30, title, "title");
  double y = 52;
  for (const std::string& line : lines) {
    svg.text(kMargin, y, line, "muted");
    y += kTextLine;
  }
  y = heading;
  for (const LineChart& chart : charts) {
    draw_chart(svg, y, chart);
    y += layout_of(chart).height;
  }
  return svg.str();
}

}  // namespace restkv::eval
