#include "report/report.h"

#include <fmt/format.h>

#include <cmath>

#include "base/printable.h"
#include "report/report_tables.h"

namespace restkv::eval {
namespace {

/// All tables of a run, in reading order.
std::vector<Table> all_tables(const RunReport& report) {
  std::vector<Table> list = score_tables(report);
  const auto add = [&](std::vector<Table> more) {
    for (Table& table : more) list.push_back(std::move(table));
  };
  add(difference_tables(report));
  add({cost_table(report), task_table(report), parameter_table(report), settings_table(report)});
  return list;
}

std::string heading(const RunReport& report) {
  return fmt::format("{}: {}", report.title(), report.model());
}

Json bounds_json(const std::optional<Bounds>& bounds) {
  if (!bounds) return nullptr;
  return {{"low", bounds->low}, {"high", bounds->high}};
}

Json difference_json(const std::optional<Difference>& difference) {
  if (!difference) return nullptr;
  const auto& bounds = difference->bounds;
  return {{"mean", difference->mean},
          {"low", bounds ? Json(bounds->low) : Json(nullptr)},
          {"high", bounds ? Json(bounds->high) : Json(nullptr)}};
}

Json group_json(const RunReport& report, const ReportGroup& group) {
  Json means = Json::object();
  for (size_t c = 0; c < report.columns.size() && c < group.means.size(); ++c) {
    means[report.columns[c].name] = {{"figure", group.means[c].figure},
                                     {"interval", bounds_json(group.means[c].bounds)},
                                     {"difference", difference_json(group.means[c].difference)}};
  }
  return {{"name", group.name}, {"samples", group.samples}, {"means", std::move(means)}};
}

/// A field of a CSV line (RFC 4180).
std::string csv_field(const std::string& field) {
  std::string text = printable(field, "\xEF\xBF\xBD");
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

}  // namespace

std::string terminal_table(const RunReport& report) {
  std::string text = what_was_run(report) + "\n\n";
  for (const std::string& sentence : verdict(report)) text += sentence + "\n";
  for (const Table& table : score_tables(report)) {
    text += fmt::format("\n{}\n{}\n\n{}", table.title, table.note, table_text(table));
  }
  const auto list = warnings(report);
  if (!list.empty()) text += '\n';
  for (const std::string& warning : list) text += warning + "\n";
  return text;
}

std::string markdown(std::span<const RunReport> reports,
                     std::span<const std::vector<Picture>> images) {
  std::string text = "# Benchmarks with a compressed KV cache\n";
  for (size_t r = 0; r < reports.size(); ++r) {
    const RunReport& report = reports[r];
    text += fmt::format("\n## {}\n\n{}\n", markdown_text(heading(report)),
                        markdown_text(what_was_run(report)));
    if (!report.question().empty()) text += fmt::format("\n{}\n", markdown_text(report.question()));
    for (const auto& list : {verdict(report), warnings(report)}) {
      if (!list.empty()) text += '\n';
      for (const std::string& sentence : list) text += "- " + markdown_text(sentence) + "\n";
    }
    for (const Picture& image : images[r]) {
      text += fmt::format("\n![{}]({})\n", markdown_text(image.caption), image.file);
    }
    for (const Table& table : all_tables(report)) {
      text += fmt::format("\n### {}\n\n{}{}", markdown_text(table.title),
                          table.note.empty() ? "" : markdown_text(table.note) + "\n\n",
                          table_markdown(table));
    }
  }
  if (const std::string missing = missing_suites(reports); !missing.empty()) {
    text += fmt::format("\n{}\n", markdown_text(missing));
  }
  return text;
}

std::string csv(std::span<const RunReport> reports) {
  std::string text =
      "benchmark,profile,model,task,category,length,subset,samples,failed,method,budget,figure,"
      "value,difference,difference_low,difference_high\n";
  for (const RunReport& report : reports) {
    const auto profile = report.settings.at("profile").get<std::string>();
    const auto benchmark = report.settings.at("benchmark").get<std::string>();
    for (const ReportRow& row : report.rows) {
      for (size_t c = 0; c < row.cells.size(); ++c) {
        const ReportCell& cell = row.cells[c];
        for (size_t f = 0; f < cell.figures.size(); ++f) {
          const auto& [name, value] = cell.figures[f];
          const bool compared = f == 0 && cell.difference.has_value();
          const auto end = [&](double Bounds::*side) {
            return compared && cell.difference->bounds
                       ? fmt::format("{}", *cell.difference->bounds.*side)
                       : std::string();
          };
          text +=
              fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n", csv_field(benchmark),
                          csv_field(profile), csv_field(report.model()), csv_field(row.task),
                          csv_field(row.category), row.length ? fmt::format("{}", *row.length) : "",
                          row.subset ? "yes" : "no", row.samples, row.failed,
                          csv_field(report.columns[c].method), report.columns[c].budget.text(),
                          csv_field(name), std::isfinite(value) ? fmt::format("{}", value) : "",
                          compared ? fmt::format("{},{},{}", cell.difference->mean,
                                                 end(&Bounds::low), end(&Bounds::high))
                                   : ",,");
        }
      }
    }
  }
  return text;
}

Json report_json(std::span<const RunReport> reports) {
  Json runs = Json::array();
  for (const RunReport& report : reports) {
    Json columns = Json::array();
    for (const ReportColumn& column : report.columns) {
      columns.push_back({{"name", column.name},
                         {"method", column.method},
                         {"budget", budget_json(column.budget)},
                         {"kept", column.kept ? Json(*column.kept) : Json(nullptr)},
                         {"kv_mib", column.kv_mib},
                         {"compress_seconds", column.compress_seconds},
                         {"decode_tokens_per_second", column.decode_tokens_per_second}});
    }
    Json rows = Json::array();
    for (const ReportRow& row : report.rows) {
      Json cells = Json::object();
      for (size_t c = 0; c < row.cells.size(); ++c) {
        Json figures = Json::object();
        for (const auto& [name, value] : row.cells[c].figures) figures[name] = value;
        cells[report.columns[c].name] = {{"figures", std::move(figures)},
                                         {"difference", difference_json(row.cells[c].difference)}};
      }
      rows.push_back({{"task", row.task},
                      {"category", row.category},
                      {"length", row.length ? Json(*row.length) : Json(nullptr)},
                      {"subset", row.subset},
                      {"lower_is_better", row.lower_is_better},
                      {"samples", row.samples},
                      {"failed", row.failed},
                      {"cut", row.cut},
                      {"cells", std::move(cells)}});
    }
    Json run = {{"settings", report.settings},
                {"circumstances", report.circumstances},
                {"samples", {{"expected", report.expected}, {"finished", report.finished}}},
                {"failures", report.failures},
                {"prefill_seconds", report.prefill_seconds},
                {"seconds", report.seconds},
                {"peak_bytes", report.peak_bytes},
                {"columns", std::move(columns)},
                {"rows", std::move(rows)},
                {"overall", group_json(report, report.overall)}};
    for (const auto& [key, groups] :
         {std::pair("lengths", &report.lengths), {"categories", &report.categories}}) {
      Json& list = run[key] = Json::array();
      for (const ReportGroup& group : *groups) list.push_back(group_json(report, group));
    }
    if (report.heat_map) {
      Json figures = Json::object();
      for (size_t c = 0; c < report.columns.size(); ++c) {
        figures[report.columns[c].name] = report.heat_map->figures[c];
      }
      run["heat_map"] = {{"lengths", report.heat_map->lengths},
                         {"depths", report.heat_map->depths},
                         {"figures", std::move(figures)}};
    }
    runs.push_back(std::move(run));
  }
  return {{"runs", std::move(runs)}};
}

}  // namespace restkv::eval
