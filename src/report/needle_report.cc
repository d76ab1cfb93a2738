#include "report/needle_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"
#include "base/printable.h"
#include "report/needle_summary.h"
#include "report/percent.h"

namespace restkv::eval {
std::string Tally::text() const { return fmt::format("{}/{}", found, total); }

std::string Tally::mark() const {
  if (total == 0) return "";
  return all() ? "✓" : none() ? "✗" : text();
}

std::string budget_text(int budget) {
  return budget == 0 ? "all tokens" : fmt::format("{} tokens", budget);
}

std::string share_text(int budget, size_t prompt_tokens) {
  const double share =
      static_cast<double>(budget) / static_cast<double>(std::max<size_t>(prompt_tokens, 1));
  return share < 1 ? fmt::format("{:.1f}%", 100 * share) : std::string("all");
}

std::string budget_share_text(int budget, size_t prompt_tokens) {
  if (budget == 0) return budget_text(budget);
  return fmt::format("{} ({})", budget_text(budget), share_text(budget, prompt_tokens));
}

NeedleSummary summarize(const NeedleReport& report) {
  NeedleSummary summary;
  summary.prompt_tokens = report.prompt_tokens;
  auto& depths = summary.depths;
  for (const auto& cell : report.cells) depths.push_back(cell.depth);
  std::ranges::sort(depths);
  depths.erase(std::unique(depths.begin(), depths.end()), depths.end());

  std::vector<std::string> methods;
  const auto rank = [&](const std::string& method) {
    return std::ranges::find(methods, method) - methods.begin();
  };
  auto& rows = summary.rows;
  for (const auto& cell : report.cells) {
    if (std::ranges::find(methods, cell.method) == methods.end()) methods.push_back(cell.method);
    auto row = std::ranges::find_if(rows, [&](const NeedleRow& r) {
      return r.method == cell.method && r.budget == cell.budget;
    });
    if (row == rows.end()) {
      rows.emplace_back();
      row = rows.end() - 1;
      row->method = cell.method;
      row->budget = cell.budget;
      row->by_depth.resize(depths.size());
    }
    const auto depth = std::ranges::lower_bound(depths, cell.depth) - depths.begin();
    for (Tally* tally : {&row->tally, &row->by_depth[static_cast<size_t>(depth)]}) {
      tally->found += cell.found;
      ++tally->total;
    }
    row->kv_mib += cell.kv_mib;
    summary.prefill_seconds += cell.prefill_seconds / static_cast<double>(report.cells.size());
    row->compress_seconds += cell.compress_seconds;
    row->decode_tokens_per_second += cell.decode_tokens_per_second;
  }
  for (auto& row : rows) {
    const auto prompts = static_cast<double>(row.tally.total);
    row.kv_mib /= prompts;
    row.compress_seconds /= prompts;
    row.decode_tokens_per_second /= prompts;
  }
  std::ranges::stable_sort(rows, [&](const NeedleRow& a, const NeedleRow& b) {
    return a.budget != b.budget ? a.budget < b.budget : rank(a.method) < rank(b.method);
  });
  return summary;
}

Table needle_table(const NeedleSummary& summary, bool with_depths) {
  Table table{
      .title = "Found and cost by method and budget",
      .note = {},
      .labels = 2,
      .header = {"method", "kept per head", "found", "cache MiB", "choosing s", "decode tokens/s"},
      .rows = {},
      .grouped_by = 1};
  if (with_depths) {
    for (const double depth : summary.depths) table.header.push_back(percent(depth));
  }
  for (const NeedleRow& row : summary.rows) {
    size_t most = 0;
    size_t least = row.tally.found;
    for (const NeedleRow& other : summary.rows) {
      if (other.budget != row.budget) continue;
      most = std::max(most, other.tally.found);
      least = std::min(least, other.tally.found);
    }
    auto& cells = table.rows.emplace_back();
    cells.push_back({row.method});
    cells.push_back({budget_share_text(row.budget, summary.prompt_tokens)});
    cells.push_back({row.tally.text(), row.tally.found == most && most > least});
    for (std::string text :
         {fmt::format("{:.2f}", row.kv_mib), fmt::format("{:.3f}", row.compress_seconds),
          fmt::format("{:.1f}", row.decode_tokens_per_second)}) {
      cells.push_back({std::move(text)});
    }
    if (!with_depths) continue;
    for (const Tally& tally : row.by_depth) cells.push_back({tally.mark()});
  }
  return table;
}

std::string table(const NeedleReport& report) {
  std::string text = table_text(needle_table(summarize(report), false)) + '\n';
  for (const std::string& sentence : conclusion(report)) text += sentence + '\n';
  return text;
}

std::string markdown(const NeedleReport& report) {
  const NeedleSummary summary = summarize(report);
  std::string text = "# Needle in a haystack\n\n";
  for (const std::string& sentence : conclusion(report)) {
    text += "- " + markdown_text(sentence) + "\n";
  }
  text += fmt::format(
      "\nModel: {}  \nMachine: {}  \nPrompt: {} tokens, read in {:.2f} s  \nrestkv {}, {}\n\n",
      markdown_text(report.model), markdown_text(report.machine), grouped(report.prompt_tokens),
      summary.prefill_seconds, markdown_text(report.version), markdown_text(report.date));
  if (!report.command.empty()) {
    text += fmt::format("Again: `{}`\n\n", printable(report.command, "?"));
  }
  return text +
         "A seven-digit number hidden in a long text has to be repeated. ✓ = found at this depth "
         "of "
         "the text (0% = start), ✗ = not found. Times and sizes are means over the depths.\n\n" +
         table_markdown(needle_table(summary, true));
}

std::string json(const NeedleReport& report) {
  Json cells = Json::array();
  for (const auto& cell : report.cells) {
    cells.push_back({{"method", cell.method},
                     {"budget", cell.budget},
                     {"depth", cell.depth},
                     {"found", cell.found},
                     {"answer", cell.answer},
                     {"output", cell.output},
                     {"kv_mib", cell.kv_mib},
                     {"prefill_seconds", cell.prefill_seconds},
                     {"compress_seconds", cell.compress_seconds},
                     {"decode_tokens_per_second", cell.decode_tokens_per_second}});
  }
  Json maps = Json::array();
  for (const auto& map : report.maps) {
    maps.push_back({{"method", map.method},
                    {"budget", map.budget},
                    {"prompt_tokens", map.prompt_tokens},
                    {"needle_begin", map.needle_begin},
                    {"needle_end", map.needle_end},
                    {"needle_pieces", map.needle_pieces},
                    {"answer", map.answer},
                    {"keep", map.keep}});
  }
  const Json all = {{"model", report.model},
                    {"machine", report.machine},
                    {"version", report.version},
                    {"date", report.date},
                    {"command", report.command},
                    {"conclusion", conclusion(report)},
                    {"prompt_tokens", report.prompt_tokens},
                    {"cells", std::move(cells)},
                    {"maps", std::move(maps)},
                    {"example_prompt", report.example_prompt},
                    {"example_needle", report.example_needle}};
  // A model may stop within a character.
  return all.dump() + '\n';
}

}  // namespace restkv::eval
