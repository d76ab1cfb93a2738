#include "report/needle_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/json.h"
#include "report/needle_summary.h"

namespace restkv::eval {
namespace {

constexpr NeedleColumn kColumns[] = {
    {"method", [](const NeedleRow& row) { return row.method; }},
    {"kept per head", [](const NeedleRow& row) { return budget_text(row.budget); }},
    {"found", [](const NeedleRow& row) { return row.tally.text(); }},
    {"KV MiB", [](const NeedleRow& row) { return fmt::format("{:.2f}", row.kv_mib); }},
    {"prefill s", [](const NeedleRow& row) { return fmt::format("{:.2f}", row.prefill_seconds); }},
    {"compress s",
     [](const NeedleRow& row) { return fmt::format("{:.3f}", row.compress_seconds); }},
    {"decode tokens/s",
     [](const NeedleRow& row) { return fmt::format("{:.1f}", row.decode_tokens_per_second); }},
};

/// A cell of a Markdown table: one line without column separators.
std::string markdown_cell(std::string_view text) {
  std::string cell;
  for (const char c : text) {
    if (c == '|' || c == '\\' || c == '<' || c == '`' || c == '*' || c == '_') cell += '\\';
    cell += c == '\n' || c == '\r' ? ' ' : c;
  }
  return cell;
}

}  // namespace

std::string Tally::text() const { return fmt::format("{}/{}", found, total); }

std::string Tally::mark() const {
  if (total == 0) return "";
  return all() ? "✓" : none() ? "✗" : text();
}

std::span<const NeedleColumn> needle_columns() { return kColumns; }

std::string budget_text(int budget) {
  return budget == 0 ? "all tokens" : fmt::format("{} tokens", budget);
}

std::string percent(double share) { return fmt::format("{:.3g}%", 100 * share); }

NeedleSummary summarize(const NeedleReport& report) {
  NeedleSummary summary;
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
    row->prefill_seconds += cell.prefill_seconds;
    row->compress_seconds += cell.compress_seconds;
    row->decode_tokens_per_second += cell.decode_tokens_per_second;
  }
  for (auto& row : rows) {
    const auto prompts = static_cast<double>(row.tally.total);
    row.kv_mib /= prompts;
    row.prefill_seconds /= prompts;
    row.compress_seconds /= prompts;
    row.decode_tokens_per_second /= prompts;
  }
  std::ranges::stable_sort(rows, [&](const NeedleRow& a, const NeedleRow& b) {
    return a.budget != b.budget ? a.budget < b.budget : rank(a.method) < rank(b.method);
  });
  return summary;
}

std::string table(const NeedleReport& report) {
  const auto rows = summarize(report).rows;
  std::string text;
  const auto add_line = [&](const NeedleRow* row) {
    for (const auto& column : kColumns) {
      size_t width = column.header.size();
      for (const auto& r : rows) width = std::max(width, column.text(r).size());
      const std::string cell = row ? column.text(*row) : std::string(column.header);
      // Names to the left, figures to the right.
      text += &column == kColumns ? fmt::format("{:<{}}", cell, width)
                                  : fmt::format("  {:>{}}", cell, width);
    }
    text += '\n';
  };
  add_line(nullptr);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (i == 0 || rows[i].budget != rows[i - 1].budget) text += '\n';
    add_line(&rows[i]);
  }
  return text;
}

std::string markdown(const NeedleReport& report) {
  const NeedleSummary summary = summarize(report);
  std::string text = fmt::format(
      "# Needle in a haystack\n\nModel: {}  \nMachine: {}  \nPrompt: {} tokens\n\n"
      "A seven-digit number hidden in a long text has to be repeated. ✓ = found at this depth of "
      "the text (0% = start), ✗ = not found. Times and sizes are means over the depths.\n\n",
      markdown_cell(report.model), markdown_cell(report.machine), report.prompt_tokens);
  std::string rule = "|";
  text += '|';
  for (const auto& column : kColumns) {
    text += fmt::format(" {} |", column.header);
    rule += &column == kColumns ? "---|" : "---:|";
  }
  for (const double depth : summary.depths) {
    text += fmt::format(" {} |", percent(depth));
    rule += ":-:|";
  }
  text += '\n' + rule + '\n';
  for (const auto& row : summary.rows) {
    text += '|';
    for (const auto& column : kColumns) {
      text += fmt::format(" {} |", markdown_cell(column.text(row)));
    }
    for (const auto& tally : row.by_depth) text += fmt::format(" {} |", tally.mark());
    text += '\n';
  }
  return text;
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
                    {"keep", map.keep}});
  }
  const Json all = {{"model", report.model},
                    {"machine", report.machine},
                    {"prompt_tokens", report.prompt_tokens},
                    {"cells", std::move(cells)},
                    {"maps", std::move(maps)},
                    {"example_prompt", report.example_prompt},
                    {"example_needle", report.example_needle}};
  // A model may stop in the middle of a character.
  return all.dump() + '\n';
}

}  // namespace restkv::eval
