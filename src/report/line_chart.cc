#include "report/line_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "report/chart_style.h"
#include "report/svg.h"

namespace restkv::eval {
namespace {

// Okabe and Ito's colours, which colour-blind readers can distinguish; further lines are dashed.
constexpr size_t kColours = 7;

constexpr double kLeft = 66;
constexpr double kTop = 84;
constexpr double kPlotWidth = 520;
constexpr double kPlotHeight = 300;
constexpr double kBelow = 62;
constexpr double kLegend = kLeft + kPlotWidth + 28;
constexpr double kLegendLine = 21;

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
  for (const Series& series : chart.series) include(series);
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

double height_of(const LineChart& chart) {
  const double legend =
      kLegendLine * static_cast<double>(chart.series.size() + (chart.full.name.empty() ? 0 : 1));
  return kTop + std::max(kPlotHeight, legend) + kBelow;
}

double width_of(const LineChart& chart) {
  size_t longest = chart.full.name.size();
  for (const Series& series : chart.series) longest = std::max(longest, series.name.size());
  return kLegend + 44 + 7.4 * static_cast<double>(longest);
}

void draw_chart(Svg& svg, double y, const LineChart& chart) {
  const Axis axis = make_axis(chart);
  const double top = y + kTop;
  const double bottom = top + kPlotHeight;
  const auto x_of = [&](size_t i) {
    const auto count = static_cast<double>(chart.x.size());
    return kLeft + kPlotWidth * (static_cast<double>(i) + 0.5) / count;
  };
  const auto y_of = [&](double value) { return bottom - kPlotHeight * axis.place(value); };

  svg.text(20, y + 34, chart.title, "title");
  svg.text(20, y + 58, chart.subtitle, "muted");
  for (const double value : axis.ticks) {
    svg.line(kLeft, y_of(value), kLeft + kPlotWidth, y_of(value), "grid");
    svg.text(kLeft - 8, y_of(value) + 4, fmt::format("{:.6g}", std::abs(value) < 1e-9 ? 0 : value),
             "end muted");
  }
  svg.line(kLeft, bottom, kLeft + kPlotWidth, bottom, "axis");
  for (size_t i = 0; i < chart.x.size(); ++i) {
    svg.line(x_of(i), bottom, x_of(i), bottom + 5, "axis");
    svg.text(x_of(i), bottom + 21, chart.x[i], "middle");
  }
  svg.text(kLeft + kPlotWidth / 2, bottom + 44, chart.x_label, "middle muted");

  double legend = top + 8;
  const auto draw = [&](const Series& series, const std::string& looks) {
    std::string path;
    bool pen_down = false;
    for (size_t i = 0; i < series.values.size(); ++i) {
      if (!std::isfinite(series.values[i])) {
        pen_down = false;
        continue;
      }
      path += fmt::format("{}{:g} {:g}", pen_down ? "L" : "M", x_of(i), y_of(series.values[i]));
      pen_down = true;
    }
    if (!path.empty()) svg.path(path, looks);
    for (size_t i = 0; i < series.values.size(); ++i) {
      if (!std::isfinite(series.values[i])) continue;
      const double px = x_of(i);
      const double py = y_of(series.values[i]);
      svg.path(fmt::format("M{:g} {:g}l4 4l-4 4l-4 -4z", px, py - 4), looks);
      svg.rect(px - 8, py - 8, 16, 16, "hit",
               fmt::format("{}, {}: {:.2f}", series.name, chart.x[i], series.values[i]));
    }
    svg.line(kLegend, legend, kLegend + 30, legend, looks);
    svg.text(kLegend + 38, legend + 4, series.name, "");
    legend += kLegendLine;
  };
  if (!chart.full.name.empty()) draw(chart.full, "full");
  for (size_t s = 0; s < chart.series.size(); ++s) {
    draw(chart.series[s], fmt::format("curve s{}{}", s % kColours, s >= kColours ? " dashed" : ""));
  }
}

}  // namespace

std::string line_chart(const LineChart& chart) {
  Svg svg(width_of(chart), height_of(chart), chart.title, kChartStyle);
  svg.rect(0, 0, width_of(chart), height_of(chart), "paper");
  draw_chart(svg, 0, chart);
  return svg.str();
}

std::string line_charts(std::string_view title, std::string_view subtitle,
                        std::span<const LineChart> charts) {
  constexpr double kHeading = 64;
  double width = 40 + 7.0 * static_cast<double>(subtitle.size());
  double height = kHeading;
  for (const LineChart& chart : charts) {
    width = std::max(width, width_of(chart));
    height += height_of(chart);
  }
  Svg svg(width, height, title, kChartStyle);
  svg.rect(0, 0, width, height, "paper");
  svg.text(20, 34, title, "title");
  svg.text(20, 56, subtitle, "muted");
  double y = kHeading;
  for (const LineChart& chart : charts) {
    draw_chart(svg, y, chart);
    y += height_of(chart);
  }
  return svg.str();
}

}  // namespace restkv::eval
