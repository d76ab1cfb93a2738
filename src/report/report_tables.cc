#include "report/report_tables.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include "base/printable.h"
#include "eval/notices.h"

namespace restkv::eval {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Behind the names of tasks that are parts of their data sets.
constexpr std::string_view kSubset = "†";

/// Scores are of 0 to 100; what is better if lower (a perplexity, a loss) differs in its decimals.
int decimals(bool lower_is_better) { return lower_is_better ? 2 : 1; }

std::string figure_text(double figure, bool lower_is_better) {
  return std::isnan(figure) ? "-" : fmt::format("{:.{}f}", figure, decimals(lower_is_better));
}

std::string difference_text(const std::optional<Difference>& difference, bool lower_is_better) {
  if (!difference) return "-";
  const int digits = decimals(lower_is_better);
  std::string mean = fmt::format("{:+.{}f}", difference->mean, digits);
  if (!difference->bounds) return mean;
  return fmt::format("{} ({:+.{}f} to {:+.{}f})", mean, difference->bounds->low, digits,
                     difference->bounds->high, digits);
}

std::string budget_name(const Budget& budget) { return budget == Budget() ? "all" : budget.text(); }

/// Columns of the report in the order of the tables' rows: by budget, the full cache first.
std::vector<size_t> by_budget(const RunReport& report) {
  std::vector<size_t> order(report.columns.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order, {}, [&](size_t c) { return report.columns[c].budget; });
  return order;
}

/// A column of a table, with a value for each column of the report.
struct Measured {
  std::string header;
  bool lower_is_better = false;
  size_t samples = 0;
  std::vector<double> figures;
  std::vector<std::optional<Difference>> differences;
};

Measured measured(const RunReport& report, const ReportRow& row) {
  Measured result;
  result.header = row.task + (row.subset ? std::string(kSubset) : "");
  result.lower_is_better = row.lower_is_better;
  result.samples = row.samples;
  for (size_t c = 0; c < report.columns.size(); ++c) {
    const bool there = c < row.cells.size() && !row.cells[c].figures.empty();
    result.figures.push_back(there ? row.cells[c].figures.front().second : kNaN);
    result.differences.push_back(there ? row.cells[c].difference : std::nullopt);
  }
  return result;
}

Measured measured(const RunReport& report, const ReportGroup& group, std::string header) {
  Measured result;
  result.header = std::move(header);
  result.lower_is_better = report.lower_is_better();
  result.samples = group.samples;
  for (const ReportMean& mean : group.means) {
    result.figures.push_back(mean.figure);
    result.differences.push_back(mean.difference);
  }
  return result;
}

/// Rows are methods at a budget.
Table empty_table(std::string title, const std::vector<Measured>& columns) {
  Table table{.title = std::move(title),
              .note = {},
              .labels = 2,
              .header = {"budget", "method"},
              .rows = {},
              .grouped_by = 0};
  for (const Measured& column : columns) table.header.push_back(column.header);
  return table;
}

std::vector<TableCell>& add_row(Table& table, const ReportColumn& cell) {
  auto& row = table.rows.emplace_back();
  row.push_back({budget_name(cell.budget)});
  row.push_back({cell.method});
  return row;
}

/// The last row: how many samples the figures are from.
void add_counts(const std::vector<Measured>& columns, Table& table) {
  auto& row = table.rows.emplace_back();
  row.push_back({"n"});
  row.push_back({"samples"});
  for (const Measured& column : columns) row.push_back({fmt::format("{}", column.samples)});
}

Table figure_table(const RunReport& report, std::string title,
                   const std::vector<Measured>& columns) {
  Table table = empty_table(std::move(title), columns);
  std::vector<std::vector<bool>> best;
  for (const Measured& column : columns) {
    best.push_back(best_of_budgets(report.columns, column.figures, column.lower_is_better));
  }
  for (const size_t c : by_budget(report)) {
    auto& row = add_row(table, report.columns[c]);
    for (size_t m = 0; m < columns.size(); ++m) {
      row.push_back({figure_text(columns[m].figures[c], columns[m].lower_is_better), best[m][c]});
    }
  }
  add_counts(columns, table);
  return table;
}

Table interval_table(const RunReport& report, std::string title,
                     const std::vector<Measured>& columns) {
  Table table = empty_table(std::move(title), columns);
  for (const size_t c : by_budget(report)) {
    if (report.columns[c].budget == Budget()) continue;
    auto& row = add_row(table, report.columns[c]);
    for (const Measured& column : columns) {
      const auto& difference = column.differences[c];
      row.push_back(
          {difference_text(difference, column.lower_is_better), difference && difference->clear()});
    }
  }
  add_counts(columns, table);
  return table;
}

/// The tables of one kind: per length all tasks and their mean, then categories and lengths.
std::vector<Table> tables(
    const RunReport& report, std::string_view what,
    const std::function<Table(const RunReport&, std::string, const std::vector<Measured>&)>& make) {
  std::vector<Table> result;
  for (const ReportGroup& length : report.lengths) {
    std::vector<Measured> columns;
    for (const size_t row : length.rows) columns.push_back(measured(report, report.rows[row]));
    if (columns.size() > 1) columns.push_back(measured(report, length, "mean"));
    result.push_back(
        make(report,
             fmt::format("{}{}", what, length.name.empty() ? "" : fmt::format(", {}", length.name)),
             columns));
  }
  if (report.lengths.size() > 1) {
    std::vector<Measured> columns;
    for (const ReportGroup& length : report.lengths) {
      columns.push_back(measured(report, length, length.name.empty() ? "other" : length.name));
    }
    columns.push_back(measured(report, report.overall, "mean"));
    result.push_back(make(report, fmt::format("{} by length", what), columns));
  }
  if (!report.categories.empty()) {
    std::vector<Measured> columns;
    for (const ReportGroup& category : report.categories) {
      columns.push_back(measured(report, category, category.name));
    }
    result.push_back(make(report, fmt::format("{} by category", what), columns));
  }
  return result;
}

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

bool any_subset(const RunReport& report) {
  return std::ranges::any_of(report.rows, &ReportRow::subset);
}

std::string metric_names(const RunReport& report) {
  std::set<std::string> names;
  for (const ReportRow& row : report.rows) {
    if (!row.cells.empty() && !row.cells.front().figures.empty()) {
      names.insert(row.cells.front().figures.front().first);
    }
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

Table settings_table(const RunReport& report) {
  Table table{
      .title = "Settings", .note = {}, .labels = 2, .header = {"setting", "value"}, .rows = {}};
  const auto& s = report.settings;
  const auto add = [&](std::string name, std::string value) {
    if (!value.empty()) table.rows.push_back({{std::move(name)}, {std::move(value)}});
  };
  add("benchmark", text_of(s.at("benchmark")));
  if (s.at("profile") != "default") add("profile", text_of(s.at("profile")));
  if (const Json* recipe = s.find("recipe")) {
    add("recipe", text_of(recipe->at("name")));
    add("source of the recipe", text_of(recipe->at("source")));
  }
  const auto& model = s.at("model");
  add("model", fmt::format("{} ({}, {})", report.model(), text_of(model.at("name")),
                           text_of(model.at("weights"))));
  add("model SHA-256", text_of(model.at("sha256")));
  const auto max_prompt = s.at("max_prompt").get<size_t>();
  add("prompt limit", max_prompt == 0 ? fmt::format("the model's context of {} tokens",
                                                    text_of(model.at("context")))
                                      : fmt::format("{} tokens", max_prompt));
  add("chat template", s.at("chat_template").get<bool>() ? "yes" : "no");
  if (s.value("question", "before") == "after") {
    add("question", "read after the context was compressed");
  }
  add("decoding", text_of(s.at("decoding")));
  add("choices scored", text_of(s.at("choices")));
  const auto shots = s.value("shots", size_t{0});
  if (shots > 0) add("examples before a question", fmt::format("{}", shots));
  if (s.value("bos", false)) add("begin-of-text before choices", "yes");
  add("cache type", text_of(s.at("kv_type")));
  add("prompt attention", s.value("sparse", std::string("dense")));
  add("seed", text_of(s.at("seed")));
  const auto limit = s.at("limit").get<size_t>();
  add("samples per task", limit == 0 ? "all" : fmt::format("at most {}", limit));
  add("remark", text_of(s.at("remark")));
  add("version", fmt::format("restkv {}", text_of(s.at("version"))));
  add("machine", report.circumstances.value("machine", std::string()));
  add("started", report.circumstances.value("started", std::string()));
  add("time", fmt::format("{:.0f} s for {} samples", report.seconds, report.finished));
  add("peak memory", fmt::format("{:.1f} MiB (of the process, all methods together)",
                                 static_cast<double>(report.peak_bytes) / (1024.0 * 1024.0)));
  return table;
}

std::vector<Table> score_tables(const RunReport& report) {
  std::vector<Table> result = tables(report, "Scores", figure_table);
  for (Table& table : result) {
    table.note = fmt::format(
        "{}, {} is better; the best method of a budget is marked.{}", metric_names(report),
        report.lower_is_better() ? "lower" : "higher",
        any_subset(report) ? fmt::format(" {} = a part of the published data set.", kSubset) : "");
  }
  return result;
}

std::vector<Table> difference_tables(const RunReport& report) {
  if (std::ranges::none_of(report.columns, [](const auto& c) { return c.budget == Budget(); }))
    return {};
  if (report.columns.size() < 2) return {};
  std::vector<Table> result = tables(report, "Difference to the full cache", interval_table);
  for (Table& table : result) {
    table.note = fmt::format(
        "Paired over samples. Intervals hold 95% of the bootstrap's resamples; those without zero "
        "are marked. Fewer than {} samples have none.",
        kFewestForIntervals);
  }
  return result;
}

Table cost_table(const RunReport& report) {
  Table table{
      .title = "Cost",
      .note = fmt::format(
          "Means of a sample. One prefill of {:.2f} s served all methods and budgets, which "
          "then decoded together: tokens/s is what all of them shared. \"kept\" are tokens per "
          "KV head.",
          report.prefill_seconds),
      .labels = 2,
      .header = {"budget", "method", "kept", "cache MiB", "compress s", "decode tokens/s"},
      .rows = {}};
  for (const size_t c : by_budget(report)) {
    const ReportColumn& column = report.columns[c];
    table.rows.push_back({{budget_name(column.budget)},
                          {column.method},
                          {column.kept ? fmt::format("{:.0f}", *column.kept) : "-"},
                          {fmt::format("{:.2f}", column.kv_mib)},
                          {fmt::format("{:.3f}", column.compress_seconds)},
                          {fmt::format("{:.1f}", column.decode_tokens_per_second)}});
  }
  return table;
}

Table task_table(const RunReport& report) {
  Table table{.title = "Tasks and data",
              .note = {},
              .labels = 2,
              .header = {"task", "category", "samples", "published", "file", "SHA-256"},
              .rows = {}};
  for (const auto& task : report.settings.at("tasks")) {
    std::string files;
    std::string hashes;
    for (const auto& file : task.at("files")) {
      files += (files.empty() ? "" : ", ") + text_of(file.at("file"));
      hashes += (hashes.empty() ? "" : ", ") + text_of(file.at("sha256"));
    }
    const auto published = task.at("published_samples").get<size_t>();
    table.rows.push_back(
        {{text_of(task.at("name"))},
         {text_of(task.at("category"))},
         {text_of(task.at("samples")) + (task.at("subset").get<bool>() ? " (subset)" : "")},
         {published == 0 ? "-" : fmt::format("{}", published)},
         {files.empty() ? "generated" : files},
         {hashes.empty() ? "-" : hashes}});
  }
  return table;
}

Table parameter_table(const RunReport& report) {
  Table table{.title = "Parameters of the methods",
              .note = {},
              .labels = 2,
              .header = {"method", "parameters"},
              .rows = {}};
  std::set<std::string> shown;
  for (const auto& cell : report.settings.at("cells")) {
    if (!shown.insert(text_of(cell.at("method"))).second) continue;
    std::string parameters;
    for (const auto& [name, value] : cell.at("parameters").items()) {
      parameters += fmt::format("{}{}={}", parameters.empty() ? "" : ", ", name, text_of(value));
    }
    table.rows.push_back({{text_of(cell.at("method"))}, {parameters.empty() ? "-" : parameters}});
  }
  return table;
}

std::vector<std::string> warnings(const RunReport& report) {
  constexpr size_t kShown = 10;
  std::vector<std::string> list;
  if (report.finished < report.expected) {
    list.push_back(fmt::format("Not complete: {} of {} samples are finished.", report.finished,
                               report.expected));
  }
  if (any_subset(report)) {
    list.push_back(
        fmt::format("Tasks marked {} are subsets: their figures must not be put beside published "
                    "figures of the "
                    "whole data sets without that mark.",
                    kSubset));
  }
  size_t cut = 0;
  for (const ReportRow& row : report.rows) cut += row.cut;
  if (cut > 0) {
    list.push_back(
        fmt::format("{} of {} prompts were too long and lost their middle.", cut, report.finished));
  }
  std::set<Budget> budgets;
  for (const ReportColumn& column : report.columns) budgets.insert(column.budget);
  std::string unused = describe_unused_budgets(budgets, report.longest_prompt);
  if (!unused.empty()) {
    unused.front() = 'N';
    list.push_back(unused + '.');
  }
  if (const Json* left_out = report.settings.find("left_out")) {
    list.push_back(fmt::format("Left out, since their files were missing: {}.",
                               fmt::join(left_out->get<std::vector<std::string>>(), ", ")));
  }
  for (size_t i = 0; i < report.failures.size() && i < kShown; ++i) {
    list.push_back(fmt::format("Failed and left out of the scores: {}", report.failures[i]));
  }
  if (report.failures.size() > kShown) {
    list.push_back(fmt::format("{} more samples failed.", report.failures.size() - kShown));
  }
  const auto& skipped = report.settings.at("skipped_lines");
  for (size_t i = 0; i < skipped.size() && i < kShown; ++i) {
    list.push_back(fmt::format("Line left out: {}:{}: {}", text_of(skipped[i].at("file")),
                               text_of(skipped[i].at("line")), text_of(skipped[i].at("reason"))));
  }
  if (skipped.size() > kShown) {
    list.push_back(fmt::format("{} more lines were left out.", skipped.size() - kShown));
  }
  std::set<std::string> notes;
  for (const auto& task : report.settings.at("tasks")) {
    if (!task.contains("notes")) continue;
    for (const auto& note : task.at("notes")) notes.insert(text_of(note));
  }
  list.insert(list.end(), notes.begin(), notes.end());
  return list;
}

std::string missing_suites(std::span<const RunReport> reports) {
  std::vector<std::string_view> missing;
  for (const Suite& suite : suites()) {
    if (std::ranges::none_of(reports, [&](const RunReport& report) {
          return report.settings.at("benchmark") == suite.name;
        })) {
      missing.push_back(suite.name);
    }
  }
  return missing.empty() ? ""
                         : fmt::format("Suites without a run here: {}.", fmt::join(missing, ", "));
}

}  // namespace restkv::eval
