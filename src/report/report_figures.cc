#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "report/heat_chart.h"
#include "report/line_chart.h"
#include "report/percent.h"
#include "report/report.h"
#include "report/report_tables.h"

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

/// The mean of a group under a method at a budget, null if there is none.
const ReportMean* mean_of(const RunReport& report, const ReportGroup& group,
                          const std::string& method, const Budget& budget) {
  for (size_t c = 0; c < report.columns.size() && c < group.means.size(); ++c) {
    const ReportColumn& column = report.columns[c];
    if (column.method == method && column.budget == budget) return &group.means[c];
  }
  return nullptr;
}

double figure_of(const RunReport& report, const ReportGroup& group, const std::string& method,
                 const Budget& budget) {
  const ReportMean* mean = mean_of(report, group, method, budget);
  return mean == nullptr ? kNaN : mean->figure;
}

void add_point(const ReportMean* mean, Series& series) {
  series.values.push_back(mean == nullptr ? kNaN : mean->figure);
  const bool known = mean != nullptr && mean->bounds;
  series.whiskers.push_back(known ? std::optional(Whisker{mean->bounds->low, mean->bounds->high})
                                  : std::nullopt);
}

/// What all charts of scores share. Scores of 0 to 100 have the same axis in every report.
LineChart score_chart(const RunReport& report, std::string title, std::string x_label,
                      const ReportGroup& group) {
  LineChart chart{
      .title = std::move(title),
      .subtitle = fmt::format(
          "{} · mean over tasks · n = {} · {}{}", report.model(), group.samples,
          report.lower_is_better() ? "lower is better" : "higher is better",
          std::ranges::any_of(group.means, [](const auto& mean) { return mean.bounds.has_value(); })
              ? " · bars: 95% of the bootstrap"
              : ""),
      .x_label = std::move(x_label),
      .x = {},
      .series = {},
      .full = {}};
  const bool scores =
      !report.lower_is_better() && std::ranges::all_of(group.means, [](const auto& mean) {
        return std::isnan(mean.figure) || (mean.figure >= 0 && mean.figure <= 100);
      });
  if (scores) chart.range = {0, 100};
  return chart;
}

std::string by_budget_svg(const RunReport& report) {
  LineChart chart = score_chart(report, fmt::format("{}: score by budget", report.title()),
                                "tokens kept per layer and KV head", report.overall);
  const auto budgets = budgets_of(report);
  for (const Budget& budget : budgets) chart.x.push_back(budget.text());
  for (const std::string& method : methods_of(report)) {
    Series& series = chart.series.emplace_back();
    series.name = method;
    for (const Budget& budget : budgets) {
      add_point(mean_of(report, report.overall, method, budget), series);
    }
  }
  const double full = figure_of(report, report.overall, "full", {});
  if (!std::isnan(full)) chart.full = {"full cache", std::vector(budgets.size(), full)};
  return line_chart(chart);
}

std::string by_length_svg(const RunReport& report, const Budget& budget) {
  LineChart chart = score_chart(
      report, fmt::format("{}: score by length, {} kept", report.title(), kept_text(budget)),
      "prompt length in tokens", report.overall);
  for (const ReportGroup& length : report.lengths) {
    const size_t number_end = length.name.find(' ');
    const bool cut = length.name.find("cut") != std::string::npos;
    chart.x.push_back(length.name.substr(0, number_end) + (cut ? " (cut)" : ""));
  }
  for (const std::string& method : methods_of(report)) {
    Series& series = chart.series.emplace_back();
    series.name = method;
    for (const ReportGroup& length : report.lengths) {
      add_point(mean_of(report, length, method, budget), series);
    }
  }
  std::vector<double> full;
  for (const ReportGroup& length : report.lengths) {
    full.push_back(figure_of(report, length, "full", {}));
  }
  if (std::ranges::any_of(full, [](double v) { return !std::isnan(v); })) {
    chart.full = {"full cache", full};
  }
  return line_chart(chart);
}

HeatChart heat_map_chart(const RunReport& report) {
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
  return chart;
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
    HeatChart chart = heat_map_chart(report);
    add("depth", "Score by prompt length and depth of the needle, for every method and budget",
        heat_chart(chart));
    chart.note =
        "A table for each method and budget: rows are the depth of the needle in the text, "
        "columns the prompt's length in tokens.";
    list.back().html = heat_html(chart, prefix + "-depth");
  }
  return list;
}

}  // namespace restkv::eval
