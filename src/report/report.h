#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "eval/metrics/statistics.h"
#include "eval/results.h"
#include "eval/suite.h"

/// Reports of runs: tables, figures and data for other programs. They are made from the runs'
/// folders alone, without model or data.
namespace restkv::eval {

/// One run: the folders (usually one, several for shards) and all their results.
struct Run {
  Json settings;
  Json circumstances;
  std::vector<std::filesystem::path> folders;
  std::vector<SampleResult> results;
};

/// Folders with the same settings are parts of one run. Throws `Error` (kInput) like `read_run` and
/// `read_results`.
std::vector<Run> load_runs(std::span<const std::filesystem::path> folders);

/// Intervals of fewer samples than this say little, so that there are none.
inline constexpr size_t kFewestForIntervals = 10;

/// Ends of a 95% bootstrap interval.
struct Bounds {
  double low = 0;
  double high = 0;
};

/// Mean of paired differences.
struct Difference {
  double mean = 0;
  std::optional<Bounds> bounds;  ///< None with fewer than `kFewestForIntervals` samples.

  /// Whether the interval leaves zero out.
  [[nodiscard]] bool clear() const { return bounds && (bounds->low > 0 || bounds->high < 0); }
};

/// One task, or the samples of one length of it, under one method and budget.
struct ReportCell {
  Scores figures;                        ///< Of the task; the first is its main metric.
  std::optional<Difference> difference;  ///< Main metric minus that of the full cache.
};

struct ReportRow {
  std::string task;  ///< Without the length.
  std::string category;
  std::optional<size_t> length;
  bool lower_is_better = false;
  bool subset = false;
  size_t samples = 0;             ///< Answered.
  size_t failed = 0;              ///< Recorded as errors.
  size_t cut = 0;                 ///< Samples whose prompts lost their middle.
  size_t longest_cut = 0;         ///< Tokens of the longest of them after the cut.
  std::vector<ReportCell> cells;  ///< Like `RunReport::columns`; empty if `samples` is 0.
};

/// A method at a budget, with what it cost on average over all samples.
struct ReportColumn {
  std::string name, method;
  Budget budget;  ///< 0: the full cache.
  double kv_mib = 0;
  std::optional<double> kept;  ///< Tokens per KV head; none of runs of earlier versions.
  double compress_seconds = 0;
  double decode_tokens_per_second = 0;
};

/// Means of rows under one column.
struct ReportMean {
  double figure = 0;
  std::optional<Bounds> bounds;  ///< Of the figure.
  std::optional<Difference> difference;
};

/// Rows that are averaged: all of one length, of one category, or all.
struct ReportGroup {
  std::string name;
  size_t samples = 0;
  std::vector<size_t> rows;
  std::vector<ReportMean> means;  ///< Like the columns.
};

/// Mean main metric by prompt length and depth of the needle, for each column.
struct HeatMap {
  std::vector<size_t> lengths;
  std::vector<double> depths;
  /// [column][length * depths.size() + depth]; NaN without samples.
  std::vector<std::vector<double>> figures;
};

/// The best method of a budget by the mean over all tasks, beside the next one.
struct ReportLead {
  Budget budget;
  std::vector<size_t> best;      ///< Columns; several if they are equal.
  std::optional<size_t> second;  ///< None if the budget has no other method.
  Difference lead;               ///< Of the best over the second, above 0 also if lower is better.
};

/// What one method answered.
struct ReportAnswer {
  std::string text;
  double score = 0;  ///< The main metric, as the suite gives it for a sample.
};

/// A sample with all answers, to be looked at.
struct ReportSample {
  std::string task, id;
  size_t prompt_tokens = 0;
  std::string prompt_end;  ///< Empty in results of earlier versions.
  std::string reference;
  bool lower_is_better = false;
  std::vector<ReportAnswer> answers;  ///< Like `RunReport::columns`.

  /// Whether the answers have different scores.
  [[nodiscard]] bool differs() const;
};

struct RunReport {
  Json settings;
  Json circumstances;
  std::vector<ReportColumn> columns;
  std::vector<ReportRow> rows;
  std::vector<ReportGroup> lengths;     ///< One without a name if there are no lengths.
  std::vector<ReportGroup> categories;  ///< Empty if they say no more than lengths or tasks.
  ReportGroup overall;                  ///< Mean over the lengths of the means over tasks.
  std::vector<ReportLead> leads;        ///< By budget, the full cache left out.
  std::vector<ReportSample> samples;    ///< Answered ones; first those whose answers differ.
  std::optional<HeatMap> heat_map;
  size_t expected = 0;  ///< Samples of the whole run.
  size_t finished = 0;
  size_t longest_prompt = 0;          ///< Tokens.
  std::vector<std::string> failures;  ///< "task/id: reason"
  double prefill_seconds = 0;         ///< Mean of a sample.
  double seconds = 0;                 ///< Of all samples.
  size_t peak_bytes = 0;

  [[nodiscard]] std::string title() const;
  /// The question of the run's recipe; empty without one.
  [[nodiscard]] std::string question() const;
  /// Name of the model's file, that of a link's target.
  [[nodiscard]] std::string model() const;
  /// Whether any row has too few samples for intervals.
  [[nodiscard]] bool few_samples() const;
  /// Whether a smaller figure is better in all rows.
  [[nodiscard]] bool lower_is_better() const;
};

RunReport report_of(const Run& run);

/// Whether each column is the best one of its budget in a row of a table; tables mark these.
/// `figures` has one value per column. NaN is never best, nor is a value that beats no other
/// method.
std::vector<bool> best_of_budgets(std::span<const ReportColumn> columns,
                                  std::span<const double> figures, bool lower_is_better);

/// A figure of a run with its file name (without folder).
struct Picture {
  std::string file;
  std::string caption;
  std::string svg;
  std::string html = {};  ///< For pages, where a picture would be too wide for a phone.
};

/// Figures of the score by budget and, if there are several, by length and by length and depth.
/// `prefix` is the beginning of the file names.
std::vector<Picture> pictures(const RunReport& report, const std::string& prefix);

/// What was run, in one sentence, and what came out, in one for each budget.
std::string what_was_run(const RunReport& report);
std::vector<std::string> verdict(const RunReport& report);

/// What was run and what came out, and tables as text for a terminal: the main metric of every
/// task, method and budget.
std::string terminal_table(const RunReport& report);

/// The report in Markdown; `images` are shown from their files.
std::string markdown(std::span<const RunReport> reports,
                     std::span<const std::vector<Picture>> images);
/// The same as one self-contained page that loads nothing.
std::string page(std::span<const RunReport> reports, std::span<const std::vector<Picture>> images);
/// One line per run, task, length, column and figure.
std::string csv(std::span<const RunReport> reports);
/// Settings and all figures, for other programs.
Json report_json(std::span<const RunReport> reports);

}  // namespace restkv::eval
