#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <string_view>

#include "report/line_chart.h"
#include "report/report.h"
#include "report/svg.h"

namespace restkv::eval {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

constexpr size_t kShades = 10;

std::string heat_map_style() {
  std::string css(kChartStyle);
  css += ".cell{stroke:#ffffff;stroke-width:1}.absent{fill:#f1f3f5}.on-dark{fill:#ffffff}\n";
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
.cell{stroke:#0d1117}.absent{fill:#161b22}.on-light{fill:#1f2328}
})";
  return css;
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
    const size_t number_end = length.name.find(' ');
    const bool cut = length.name.find("cut") != std::string::npos;
    chart.x.push_back(length.name.substr(0, number_end) + (cut ? " (cut)" : ""));
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
  constexpr double kCharacter = 7.5;  // of a panel's name, about
  const auto columns = static_cast<double>(map.lengths.size());
  const double cell = std::clamp(260 / columns, 3.0, 46.0);
  size_t longest_name = 0;
  for (const ReportColumn& column : report.columns) {
    longest_name = std::max(longest_name, column.name.size());
  }
  const double panel_width = std::max(
      {cell * columns, 150.0, std::min(kCharacter * static_cast<double>(longest_name), kWidth)});
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
  if (most <= 100) most = 100;  // scores have the same scale in every report

  Svg svg(kWidth, height, fmt::format("{}: score by length and depth", report.title()),
          heat_map_style());
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
