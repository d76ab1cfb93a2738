#include <fmt/format.h>

#include <string>
#include <utility>

#include "report/heat_chart.h"
#include "report/needle_report.h"
#include "report/needle_summary.h"
#include "report/percent.h"

namespace restkv::eval {
namespace {

HeatSquare square_of(const Tally& tally, std::string tooltip) {
  HeatSquare square{.text = tally.text(), .tooltip = std::move(tooltip)};
  if (tally.total == 0) return square;
  square.share = static_cast<double>(tally.found) / static_cast<double>(tally.total);
  if (tally.all()) square.sign = HeatSign::kTick;
  if (tally.none()) square.sign = HeatSign::kCross;
  return square;
}

/// What the models of one square said.
std::string outputs_text(const NeedleReport& report, const NeedleRow& row, double depth) {
  std::string text =
      fmt::format("{}, {} kept, depth {}", row.method, budget_text(row.budget), percent(depth));
  for (const auto& cell : report.cells) {
    if (cell.method == row.method && cell.budget == row.budget && cell.depth == depth) {
      text += fmt::format("\nasked for {}, said: {}", cell.answer, cell.output);
    }
  }
  return text;
}

}  // namespace

HeatChart needle_chart(const NeedleReport& report) {
  const NeedleSummary summary = summarize(report);
  HeatChart chart{
      .title = "Does the answer survive? Needle in a haystack",
      .subtitle = fmt::format("{} · prompts of {} tokens · one panel per number of tokens kept per "
                              "layer and KV head",
                              report.model, grouped(report.prompt_tokens)),
      .keys = {{square_of({1, 1}, ""), "number repeated correctly"},
               {square_of({0, 1}, ""), "not found"},
               {square_of({1, 2}, ""), "found in some prompts"}},
      .note = "rows: depth of the needle in the text",
      .rows = {},
      .turned = true,
      .panels = {}};
  for (const double depth : summary.depths) {
    chart.rows.push_back(percent(depth) + (depth == 0 ? " (start)" : depth == 1 ? " (end)" : ""));
  }
  for (size_t r = 0; r < summary.rows.size(); ++r) {
    const NeedleRow& row = summary.rows[r];
    if (r == 0 || row.budget != summary.rows[r - 1].budget) {
      chart.panels.push_back({budget_share_text(row.budget, report.prompt_tokens), {}});
    }
    HeatColumn column{.name = row.method, .sum = row.tally.text(), .squares = {}};
    for (size_t d = 0; d < summary.depths.size(); ++d) {
      column.squares.push_back(
          square_of(row.by_depth[d], outputs_text(report, row, summary.depths[d])));
    }
    chart.panels.back().columns.push_back(std::move(column));
  }
  return chart;
}

std::string heatmap_svg(const NeedleReport& report) { return heat_chart(needle_chart(report)); }

}  // namespace restkv::eval
