#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "report/heat_chart.h"
#include "report/line_chart.h"
#include "report/percent.h"
#include "report/report.h"

namespace restkv::eval {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::vector<Budget> budgets_of(const RunReport& report) {
  std::set<Budget> budgets;
  for (const ReportColumn& column : report.columns) {
    if (column.budget != Budget()) budgets.insert(column.budget);
  }
  return {budgets.begin(), budgets.end()};
}

std::vector<std::string> methods_of(const RunReport& report) {
  std::vector<std::string> methods;
  for (const ReportColumn& column : report.columns) {
    if (column.budget != Budget() && std::ranges::find(methods, column.method) == methods.end()) {
      methods.push_back(column.method);
    }
  }
  return methods;
}

/// The mean of a group under a method at a budget; NaN if there is none.
double figure_of(const RunReport& report, const ReportGroup& group, const std::string& method,
                 const Budget& budget) {
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
  for (const Budget& budget : budgets) chart.x.push_back(budget.text());
  for (const std::string& method : methods_of(report)) {
    Series& series = chart.series.emplace_back();
    series.name = method;
    for (const Budget& budget : budgets) {
      series.values.push_back(figure_of(report, report.overall, method, budget));
    }
  }
  const double full = figure_of(report, report.overall, "full", {});
  if (!std::isnan(full)) chart.full = {"full cache", std::vector(budgets.size(), full)};
  return line_chart(chart);
}

/// "64 tokens", "25%"
std::string kept_text(const Budget& budget) {
  const bool number = budget.share == 0 && budget.tolerance == 0;
  return number ? budget.text() + " tokens" : budget.text();
}

std::string by_length_svg(const RunReport& report, const Budget& budget) {
  LineChart chart{
      .title = fmt::format("{}: score by length, {} kept", report.title(), kept_text(budget)),
      .subtitle = fmt::format("{} · mean over tasks · {}", report.model(), better(report)),
      .x_label = "prompt length in tokens",
      .x = {},
      .series = {},
      .full = {}};
  const auto values = [&](const std::string& method, const Budget& kept) {
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
  const auto full = values("full", {});
  if (std::ranges::any_of(full, [](double v) { return !std::isnan(v); })) {
    chart.full = {"full cache", full};
  }
  return line_chart(chart);
}

std::string heat_map_svg(const RunReport& report) {
  const HeatMap& map = *report.heat_map;
  double most = 100;  // scores; the scale is then the same in every report
  for (const auto& figures : map.figures) {
    for (const double figure : figures) {
      if (std::isfinite(figure)) most = std::max(most, figure);
    }
  }
  const auto square = [&](double figure, std::string text, std::string tooltip) {
    return HeatSquare{.share = std::clamp(figure / most, 0.0, 1.0),
                      .sign = HeatSign::kText,
                      .text = std::move(text),
                      .tooltip = std::move(tooltip)};
  };
  const auto lengths = static_cast<double>(std::max<size_t>(map.lengths.size(), 1));
  HeatChart chart{
      .title = fmt::format("{}: score by length and depth", report.title()),
      .subtitle = fmt::format("{} · rows: depth of the needle in the text · columns: prompt length "
                              "in tokens",
                              report.model()),
      .keys = {},
      .note = "score",
      .rows = {},
      .narrowest = std::clamp(260 / lengths, 3.0, 46.0),
      .panels = {}};
  for (int tenth = 0; tenth <= 10; ++tenth) {
    const double figure = most * tenth / 10;
    chart.keys.push_back({square(figure, fmt::format("{:.0f}", figure), ""), ""});
  }
  for (const double depth : map.depths) chart.rows.push_back(percent(depth));
  for (size_t c = 0; c < report.columns.size(); ++c) {
    HeatPanel& panel = chart.panels.emplace_back();
    panel.name = report.columns[c].name;
    for (size_t l = 0; l < map.lengths.size(); ++l) {
      HeatColumn& column = panel.columns.emplace_back();
      column.name = fmt::format("{}", map.lengths[l]);
      for (size_t d = 0; d < map.depths.size(); ++d) {
        const double figure = map.figures[c][l * map.depths.size() + d];
        const std::string place =
            fmt::format("{}, {} tokens, depth {}", panel.name, column.name, chart.rows[d]);
        column.squares.push_back(std::isfinite(figure)
                                     ? square(figure, fmt::format("{:.0f}", figure),
                                              fmt::format("{}: {:.1f}", place, figure))
                                     : HeatSquare{.tooltip = place + ": not run"});
      }
    }
  }
  return heat_chart(chart);
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
    for (const Budget& budget : budgets) {
      std::string name = budget.text();
      if (name.ends_with('%')) name.replace(name.size() - 1, 1, "-percent");
      std::ranges::replace(name, ':', '-');
      add(fmt::format("length-{}", name),
          fmt::format("Mean score by prompt length, {} kept.", kept_text(budget)),
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
