#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <string_view>

#include "eval/report.h"
#include "eval/svg.h"

namespace restkv::eval {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Okabe and Ito's colours, which colour-blind readers can tell apart; after them, dashes.
constexpr size_t kColours = 7;
constexpr size_t kShades = 10;  // of a heat map

std::string style() {
  std::string css = R"(
text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:#1f2328}
.title{font-size:19px;font-weight:600}.strong{font-weight:600}.muted{fill:#57606a}.small{font-size:11px}
.middle{text-anchor:middle}.end{text-anchor:end}
.paper{fill:#ffffff}.axis{stroke:#8c959f;fill:none}.grid{stroke:#d8dee4;fill:none}
.curve{fill:none;stroke-width:2.2;stroke-linejoin:round}.dashed{stroke-dasharray:6 4}
.full{fill:none;stroke:#1f2328;stroke-width:1.8;stroke-dasharray:2 4}
.s0{stroke:#0072b2}.s1{stroke:#d55e00}.s2{stroke:#009e73}.s3{stroke:#cc79a7}.s4{stroke:#e69f00}
.s5{stroke:#56b4e9}.s6{stroke:#7a5195}
.hit{fill:none;stroke:none;pointer-events:all}
.cell{stroke:#ffffff;stroke-width:1}.absent{fill:#f1f3f5}.on-dark{fill:#ffffff}
)";
  for (size_t i = 0; i <= kShades; ++i) {
    const double share = static_cast<double>(i) / kShades;
    const auto mix = [&](double low, double high) {
      return static_cast<int>(std::lround(low + (high - low) * share));
    };
    css += fmt::format(".h{}{{fill:#{:02x}{:02x}{:02x}}}", i, mix(0xf7, 0x08), mix(0xe3, 0x51),
                       mix(0xd0, 0x9c));
  }
  css += R"(
@media(prefers-color-scheme:dark){
text{fill:#e6edf3}.muted{fill:#9da7b3}.paper{fill:#0d1117}.axis{stroke:#6e7681}.grid{stroke:#21262d}
.full{stroke:#e6edf3}.cell{stroke:#0d1117}.absent{fill:#161b22}.on-light{fill:#1f2328}
})";
  return css;
}

struct Series {
  std::string name;
  std::vector<double> values;  // like the x axis; NaN where there is none
};

struct LineChart {
  std::string title, subtitle, x_label;
  std::vector<std::string> x;
  std::vector<Series> series;
  Series full;  // no name: none
};

/// 1, 2 or 5 times a power of ten: about six steps for the range.
double round_step(double range) {
  const double rough = range / 6;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  for (const double digit : {1.0, 2.0, 5.0}) {
    if (digit * power >= rough) return digit * power;
  }
  return 10 * power;
}

std::string line_chart(const LineChart& chart) {
  constexpr double kLeft = 66;
  constexpr double kTop = 84;
  constexpr double kPlotWidth = 520;
  constexpr double kPlotHeight = 300;
  constexpr double kLegend = kLeft + kPlotWidth + 28;
  constexpr double kLegendLine = 21;

  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  size_t longest = chart.full.name.size();
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
    longest = std::max(longest, series.name.size());
  }
  if (!(low <= high)) low = high = 0;
  const double step = round_step(std::max(high - low, std::max(std::abs(high), 1.0) * 0.02));
  low = std::floor(low / step) * step;
  high = std::max(std::ceil(high / step) * step, low + step);

  const double legend_height =
      kLegendLine * static_cast<double>(chart.series.size() + (chart.full.name.empty() ? 0 : 1));
  const double height = kTop + std::max(kPlotHeight, legend_height) + 62;
  const double width = kLegend + 44 + 7.4 * static_cast<double>(longest);
  const auto x_of = [&](size_t i) {
    const auto count = static_cast<double>(chart.x.size());
    return kLeft + kPlotWidth * (static_cast<double>(i) + 0.5) / count;
  };
  const auto y_of = [&](double value) {
    return kTop + kPlotHeight * (high - value) / (high - low);
  };

  Svg svg(width, height, chart.title, style());
  svg.rect(0, 0, width, height, "paper");
  svg.text(20, 34, chart.title, "title");
  svg.text(20, 58, chart.subtitle, "muted");
  const auto ticks = static_cast<int>(std::lround((high - low) / step));
  for (int t = 0; t <= ticks; ++t) {
    const double value = low + step * t;
    svg.line(kLeft, y_of(value), kLeft + kPlotWidth, y_of(value), "grid");
    svg.text(kLeft - 8, y_of(value) + 4, fmt::format("{:.4g}", std::abs(value) < 1e-9 ? 0 : value),
             "end muted");
  }
  const double axis = kTop + kPlotHeight;
  svg.line(kLeft, axis, kLeft + kPlotWidth, axis, "axis");
  for (size_t i = 0; i < chart.x.size(); ++i) {
    svg.line(x_of(i), axis, x_of(i), axis + 5, "axis");
    svg.text(x_of(i), axis + 21, chart.x[i], "middle");
  }
  svg.text(kLeft + kPlotWidth / 2, axis + 44, chart.x_label, "middle muted");

  double legend = kTop + 8;
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
      const double x = x_of(i);
      const double y = y_of(series.values[i]);
      svg.path(fmt::format("M{:g} {:g}l4 4l-4 4l-4 -4z", x, y - 4), looks);
      svg.rect(x - 8, y - 8, 16, 16, "hit",
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
  return svg.str();
}

std::vector<int> budgets_of(const RunReport& report) {
  std::set<int> budgets;
  for (const ReportColumn& column : report.columns) {
    if (column.budget > 0) budgets.insert(column.budget);
  }
  return {budgets.begin(), budgets.end()};
}

std::vector<std::string> methods_of(const RunReport& report) {
  std::vector<std::string> methods;
  for (const ReportColumn& column : report.columns) {
    if (column.budget > 0 && std::ranges::find(methods, column.method) == methods.end()) {
      methods.push_back(column.method);
    }
  }
  return methods;
}

/// The mean of a group under a method at a budget; NaN if there is none.
double figure_of(const RunReport& report, const ReportGroup& group, const std::string& method,
                 int budget) {
  for (size_t c = 0; c < report.columns.size() && c < group.means.size(); ++c) {
    const ReportColumn& column = report.columns[c];
    if (column.method == method && column.budget == budget) return group.means[c].figure;
  }
  return kNaN;
}

std::string better(const RunReport& report) {
  return report.lower_is_better() ? "lower is better" : "higher is better";
}

std::string by_budget_svg(const RunReport& report) {
  LineChart chart{
      .title = fmt::format("{}: score by budget", report.title()),
      .subtitle = fmt::format("{} · mean over tasks · {}", report.model(), better(report)),
      .x_label = "tokens kept per layer and KV head",
      .x = {},
      .series = {},
      .full = {}};
  const auto budgets = budgets_of(report);
  for (const int budget : budgets) chart.x.push_back(fmt::format("{}", budget));
  for (const std::string& method : methods_of(report)) {
    Series& series = chart.series.emplace_back();
    series.name = method;
    for (const int budget : budgets) {
      series.values.push_back(figure_of(report, report.overall, method, budget));
    }
  }
  const double full = figure_of(report, report.overall, "full", 0);
  if (!std::isnan(full)) chart.full = {"full cache", std::vector(budgets.size(), full)};
  return line_chart(chart);
}

std::string by_length_svg(const RunReport& report, int budget) {
  LineChart chart{
      .title = fmt::format("{}: score by length, {} tokens kept", report.title(), budget),
      .subtitle = fmt::format("{} · mean over tasks · {}", report.model(), better(report)),
      .x_label = "prompt length in tokens",
      .x = {},
      .series = {},
      .full = {}};
  const auto values = [&](const std::string& method, int kept) {
    std::vector<double> list;
    for (const ReportGroup& length : report.lengths) {
      list.push_back(figure_of(report, length, method, kept));
    }
    return list;
  };
  for (const ReportGroup& length : report.lengths) {
    chart.x.push_back(length.name.substr(0, length.name.find(' ')));
  }
  for (const std::string& method : methods_of(report)) {
    chart.series.push_back({method, values(method, budget)});
  }
  const auto full = values("full", 0);
  if (std::ranges::any_of(full, [](double v) { return !std::isnan(v); })) {
    chart.full = {"full cache", full};
  }
  return line_chart(chart);
}

std::string percent_of(double depth) { return fmt::format("{:.3g}%", 100 * depth); }

std::string heat_map_svg(const RunReport& report) {
  const HeatMap& map = *report.heat_map;
  constexpr double kLeft = 64;
  constexpr double kTop = 116;
  constexpr double kWidth = 1120;
  constexpr double kPanelHead = 24;
  constexpr double kPanelFoot = 46;
  constexpr double kGap = 30;
  constexpr double kRow = 20;
  const auto columns = static_cast<double>(map.lengths.size());
  const double cell = std::clamp(260 / columns, 3.0, 46.0);
  const double panel_width = std::max(cell * columns, 150.0);
  const double panel_height = kRow * static_cast<double>(map.depths.size());
  const auto per_line =
      std::max<size_t>(1, static_cast<size_t>((kWidth - kLeft + kGap) / (panel_width + kGap)));
  const size_t lines = (report.columns.size() + per_line - 1) / per_line;
  const double line_height = kPanelHead + panel_height + kPanelFoot;
  const double height = kTop + line_height * static_cast<double>(lines) + 6;

  double most = 0;
  for (const auto& figures : map.figures) {
    for (const double figure : figures) {
      if (std::isfinite(figure)) most = std::max(most, figure);
    }
  }
  if (most <= 100) most = 100;  // scores; the scale is then the same in every report

  Svg svg(kWidth, height, fmt::format("{}: score by length and depth", report.title()), style());
  svg.rect(0, 0, kWidth, height, "paper");
  svg.text(20, 34, fmt::format("{}: score by length and depth", report.title()), "title");
  svg.text(20, 58,
           fmt::format("{} · rows: depth of the needle in the text · columns: prompt "
                       "length in tokens",
                       report.model()),
           "muted");
  svg.text(20, 88, "0", "");
  for (size_t i = 0; i <= kShades; ++i) {
    svg.rect(36 + 22 * static_cast<double>(i), 76, 22, 15, fmt::format("cell h{}", i));
  }
  svg.text(36 + 22 * (kShades + 1.0) + 8, 88, fmt::format("{:.4g}", most), "");

  for (size_t c = 0; c < report.columns.size(); ++c) {
    const double x = kLeft + (panel_width + kGap) * static_cast<double>(c % per_line);
    const size_t line = c / per_line;
    const double y = kTop + line_height * static_cast<double>(line) + kPanelHead;
    svg.text(x, y - 8, report.columns[c].name, "strong small");
    for (size_t d = 0; c % per_line == 0 && d < map.depths.size(); ++d) {
      svg.text(x - 6, y + kRow * (static_cast<double>(d) + 0.5) + 4, percent_of(map.depths[d]),
               "end muted small");
    }
    double labelled = -1000;
    for (size_t l = 0; l < map.lengths.size(); ++l) {
      const double left = x + cell * static_cast<double>(l);
      for (size_t d = 0; d < map.depths.size(); ++d) {
        const double figure = map.figures[c][l * map.depths.size() + d];
        const double top = y + kRow * static_cast<double>(d);
        const std::string place = fmt::format("{}, {} tokens, depth {}", report.columns[c].name,
                                              map.lengths[l], percent_of(map.depths[d]));
        if (!std::isfinite(figure)) {
          svg.rect(left, top, cell, kRow, "cell absent", place + ": not run");
          continue;
        }
        const double share = std::clamp(figure / most, 0.0, 1.0);
        svg.rect(left, top, cell, kRow, fmt::format("cell h{}", std::lround(share * kShades)),
                 fmt::format("{}: {:.1f}", place, figure));
        if (cell >= 26) {
          svg.text(left + cell / 2, top + kRow / 2 + 4, fmt::format("{:.0f}", figure),
                   share > 0.5 ? "middle small on-dark" : "middle small on-light");
        }
      }
      if (left - labelled >= 44) {
        labelled = left;
        svg.text(left + cell / 2, y + panel_height + 16, fmt::format("{}", map.lengths[l]),
                 "middle muted small");
      }
    }
  }
  return svg.str();
}

}  // namespace

std::vector<Picture> pictures(const RunReport& report, const std::string& prefix) {
  std::vector<Picture> list;
  if (report.rows.empty()) return list;
  const auto add = [&](const std::string& name, std::string caption, std::string svg) {
    list.push_back({fmt::format("{}-{}.svg", prefix, name), std::move(caption), std::move(svg)});
  };
  const auto budgets = budgets_of(report);
  if (!budgets.empty()) {
    add("budget", "Mean score of every method by the number of tokens kept.",
        by_budget_svg(report));
  }
  if (report.lengths.size() > 1) {
    for (const int budget : budgets) {
      add(fmt::format("length-{}", budget),
          fmt::format("Mean score by prompt length, {} tokens kept.", budget),
          by_length_svg(report, budget));
    }
  }
  if (report.heat_map) {
    add("depth", "Score by prompt length and depth of the needle, for every method and budget.",
        heat_map_svg(report));
  }
  return list;
}

}  // namespace restkv::eval
