#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <stdexcept>

#include "base/json.h"
#include "report/report.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Number of resamples for tasks whose figure is not a mean and is computed for every resample.
constexpr size_t kSlowResamples = 500;

/// Samples of one row, with their scores for each column.
struct RowSamples {
  size_t count = 0;
  size_t failed = 0;
  size_t cut = 0;
  size_t longest_cut = 0;
  std::vector<std::vector<Scores>> scores;  // [column][sample]
};

/// Throws `Error` (kInput) naming the first field needed by reports that is not in the format of
/// `run_settings`.
void check_settings(const Json& settings) {
  for (const char* name :
       {"version", "benchmark", "profile", "remark", "decoding", "choices", "kv_type"}) {
    text_field(settings, name);
  }
  for (const char* name : {"limit", "max_prompt"}) count_field(settings, name);
  field(settings, "seed");
  bool_field(settings, "chat_template");
  const auto optional = [&](const char* name, auto check) {
    if (settings.contains(name)) check(settings, name);
  };
  optional("shots", count_field);
  optional("bos", bool_field);
  optional("sparse", text_field);
  optional("question", text_field);
  const auto& model = object_field(settings, "model");
  for (const char* name : {"file", "name", "weights", "sha256"}) text_field(model, name);
  field(model, "context");
  if (settings.contains("recipe")) {
    const auto& recipe = object_field(settings, "recipe");
    for (const char* name : {"name", "title", "question", "source"}) text_field(recipe, name);
  }
  for (const auto& cell : list_field(settings, "cells")) {
    for (const char* name : {"name", "method"}) text_field(cell, name);
    budget_from_json(field(cell, "budget"));
    object_field(cell, "parameters");
  }
  for (const auto& task : list_field(settings, "tasks")) {
    for (const char* name : {"name", "category"}) text_field(task, name);
    for (const char* name : {"samples", "published_samples"}) count_field(task, name);
    for (const char* name : {"subset", "lower_is_better"}) bool_field(task, name);
    for (const auto& file : list_field(task, "files")) {
      for (const char* name : {"file", "sha256"}) text_field(file, name);
    }
    if (task.contains("notes")) texts_field(task, "notes");
  }
  for (const auto& line : list_field(settings, "skipped_lines")) {
    for (const char* name : {"file", "line", "reason"}) field(line, name);
  }
}

void check_circumstances(const Json& circumstances) {
  if (!circumstances.is_object()) {
    throw Error(ErrorCode::kInput,
                fmt::format("'circumstances' must be an object, not {}", shown(circumstances)));
  }
  for (const char* name : {"machine", "started", "model"}) {
    if (circumstances.contains(name)) text_field(circumstances, name);
  }
}

std::vector<std::string> names_of(const Scores& scores) {
  std::vector<std::string> names;
  for (const auto& [name, value] : scores) names.push_back(name);
  return names;
}

double main_figure(const Scores& scores) { return scores.empty() ? kNaN : scores.front().second; }

/// "Paris; paris" for texts; other references as they are in the results.
std::string reference_text(const Json& reference) {
  if (reference.is_null()) return "";
  if (reference.is_string()) return reference.text();
  const bool texts = reference.is_array() && std::ranges::all_of(reference, &Json::is_string);
  if (!texts) return reference.dump();
  std::string list;
  for (const Json& text : reference) list += (list.empty() ? "" : "; ") + text.text();
  return list;
}

std::string answer_text(const Answer& answer) {
  if (!answer.log_likelihoods.empty()) {
    const auto best = std::ranges::max_element(answer.log_likelihoods);
    return fmt::format("choice {} of {} (log-likelihoods {:.3g})",
                       best - answer.log_likelihoods.begin() + 1, answer.log_likelihoods.size(),
                       fmt::join(answer.log_likelihoods, ", "));
  }
  if (!answer.token_losses.empty()) {
    return fmt::format("a loss of {:.3f} per token over {} tokens", mean(answer.token_losses),
                       answer.token_losses.size());
  }
  if (answer.turn_texts.empty()) return answer.text;
  return fmt::format("{}", fmt::join(answer.turn_texts, "\n---\n"));
}

/// The summary function of a suite, or a default for a suite that this program does not have.
std::function<Scores(std::string_view, std::span<const Scores>)> summarizer(
    std::string_view benchmark) {
  for (const Suite& suite : suites()) {
    if (suite.name != benchmark || suite.summarize == nullptr) continue;
    return [&suite](std::string_view task, std::span<const Scores> samples) {
      try {
        return suite.summarize(task, samples);
      } catch (const std::logic_error&) {  // a score is missing
      } catch (const Error&) {             // the suite has no such task
      }
      throw Error(ErrorCode::kInput,
                  fmt::format("task '{}' has other scores than the suite {} gives; its results are "
                              "damaged or from another version",
                              task, suite.name));
    };
  }
  return [](std::string_view, std::span<const Scores> samples) { return mean_scores(samples); };
}

class Summary {
 public:
  Summary(const Run& run, RunReport& report)
      : run_(run),
        report_(report),
        summarize_(summarizer(run.settings.at("benchmark").get<std::string>())) {}

  void make() {
    report_.settings = run_.settings;
    report_.circumstances = run_.circumstances;
    add_columns();
    add_rows();
    add_totals();
    add_groups();
    add_leads();
    add_heat_map();
    add_samples();
  }

 private:
  [[nodiscard]] size_t column_of(const std::string& name) const {
    for (size_t i = 0; i < report_.columns.size(); ++i) {
      if (report_.columns[i].name == name) return i;
    }
    throw Error(ErrorCode::kInput,
                fmt::format("{} holds a result of \"{}\", which is not among the methods of its "
                            "run.json",
                            run_.folders.front().string(), name));
  }

  void add_columns() {
    for (const auto& cell : run_.settings.at("cells")) {
      ReportColumn& column = report_.columns.emplace_back();
      column.name = cell.at("name").text();
      column.method = cell.at("method").text();
      column.budget = budget_from_json(cell.at("budget"));
    }
    std::vector<double> steps(report_.columns.size());
    std::vector<double> seconds(report_.columns.size());
    std::vector<std::vector<double>> kept(report_.columns.size());
    size_t answered = 0;
    for (const SampleResult& result : run_.results) {
      if (!result.cells.empty()) ++answered;
      for (const CellResult& cell : result.cells) {
        const size_t c = column_of(cell.cell);
        report_.columns[c].kv_mib += static_cast<double>(cell.kv_bytes) / (1024.0 * 1024.0);
        report_.columns[c].compress_seconds += cell.compress_seconds;
        if (cell.kept) kept[c].push_back(*cell.kept);
        steps[c] += static_cast<double>(cell.decode_steps);
        seconds[c] += cell.decode_seconds;
      }
    }
    for (size_t c = 0; c < report_.columns.size(); ++c) {
      const auto count = static_cast<double>(std::max<size_t>(answered, 1));
      report_.columns[c].kv_mib /= count;
      if (!kept[c].empty()) report_.columns[c].kept = mean(kept[c]);
      report_.columns[c].compress_seconds /= count;
      report_.columns[c].decode_tokens_per_second = seconds[c] > 0 ? steps[c] / seconds[c] : 0;
    }
  }

  /// Refuses results of unknown tasks, which would otherwise be dropped silently.
  void check_tasks() const {
    std::set<std::string> names;
    for (const auto& task : run_.settings.at("tasks")) names.insert(task.at("name").text());
    for (const SampleResult& result : run_.results) {
      if (names.contains(result.task)) continue;
      throw Error(
          ErrorCode::kInput,
          fmt::format("{}: the result of a task '{}', which is not among those of run.json; "
                      "remove the line, or put it where it belongs",
                      result.place, result.task));
    }
  }

  void add_rows() {
    check_tasks();
    for (const auto& task : run_.settings.at("tasks")) {
      const auto name = task.at("name").get<std::string>();
      std::map<std::optional<size_t>, RowSamples> by_length;
      for (const SampleResult& result : run_.results) {
        if (result.task != name) continue;
        RowSamples& row = by_length[result.length];
        if (result.cut_from > 0) {
          ++row.cut;
          row.longest_cut = std::max(row.longest_cut, result.prompt_tokens);
        }
        if (!result.error.empty()) {
          ++row.failed;
          continue;
        }
        ++row.count;
        row.scores.resize(report_.columns.size());
        std::vector<bool> seen(report_.columns.size());
        for (const CellResult& cell : result.cells) {
          const size_t c = column_of(cell.cell);
          seen[c] = true;
          row.scores[c].push_back(cell.scores);
          if (names_of(cell.scores) == names_of(row.scores[c].front())) continue;
          throw Error(ErrorCode::kInput,
                      fmt::format("{}: {} has other scores here than in lines before; remove the "
                                  "line and run its sample again",
                                  result.place, cell.cell));
        }
        if (std::ranges::find(seen, false) == seen.end()) continue;
        throw Error(ErrorCode::kInput,
                    fmt::format("{}: sample {} of {} lacks a method of run.json; remove its line "
                                "and run it again",
                                result.place, result.id, name));
      }
      for (const auto& [length, samples] : by_length) {
        ReportRow& row = report_.rows.emplace_back();
        row.task = name;
        const std::string suffix = length ? fmt::format("@{}", *length) : "";
        if (!suffix.empty() && name.ends_with(suffix)) {
          row.task.resize(name.size() - suffix.size());
        }
        row.length = length;
        row.category = task.at("category").text();
        row.lower_is_better = task.at("lower_is_better").get<bool>();
        row.subset = task.at("subset").get<bool>();
        row.samples = samples.count;
        row.failed = samples.failed;
        row.cut = samples.cut;
        row.longest_cut = samples.longest_cut;
        add_cells(name, samples, row);
      }
    }
  }

  void add_cells(const std::string& task, const RowSamples& samples, ReportRow& row) {
    if (samples.count == 0) {
      means_.emplace_back();
      return;
    }
    row.cells.resize(report_.columns.size());
    // The samples' figures of a task whose figure is a mean; otherwise empty.
    std::vector<std::vector<double>> means(row.cells.size());
    bool plain = true;
    for (size_t c = 0; c < row.cells.size(); ++c) {
      row.cells[c].figures = summarize_(task, samples.scores[c]);
      for (const Scores& scores : samples.scores[c]) means[c].push_back(100 * main_figure(scores));
      // Benchmarks round their figures to two decimals.
      plain = plain && std::abs(mean(means[c]) - main_figure(row.cells[c].figures)) < 0.00501;
    }
    const size_t full = full_column();
    for (size_t c = 0; c < row.cells.size() && full < row.cells.size(); ++c) {
      if (c == full) continue;
      row.cells[c].difference =
          plain ? paired_difference(means[c], means[full])
                : resampled_difference(task, samples.scores[c], samples.scores[full]);
    }
    if (!plain) means.clear();
    means_.push_back(std::move(means));
  }

  static std::optional<Bounds> bounds_of(const Interval& interval) {
    return Bounds{interval.low, interval.high};
  }

  static Difference paired_difference(std::span<const double> a, std::span<const double> b) {
    if (a.size() < kFewestForIntervals) return {mean(a) - mean(b), std::nullopt};
    const Interval interval = paired_bootstrap(a, b);
    return {interval.mean, bounds_of(interval)};
  }

  [[nodiscard]] Difference resampled_difference(const std::string& task,
                                                const std::vector<Scores>& scores,
                                                const std::vector<Scores>& full) const {
    const auto figure = [&](const std::vector<Scores>& list) {
      return main_figure(summarize_(task, list));
    };
    const double difference = figure(scores) - figure(full);
    if (scores.size() < kFewestForIntervals) return {difference, std::nullopt};
    std::vector<Scores> a(scores.size());
    std::vector<Scores> b(scores.size());
    const Interval interval = bootstrap(difference,
                                        [&](Random& random) {
                                          for (size_t i = 0; i < a.size(); ++i) {
                                            const size_t drawn = random.below(a.size());
                                            a[i] = scores[drawn];
                                            b[i] = full[drawn];
                                          }
                                          return figure(a) - figure(b);
                                        },
                                        {.resamples = kSlowResamples});
    return {difference, bounds_of(interval)};
  }

  /// Index of the full cache, or the number of columns if there is none.
  [[nodiscard]] size_t full_column() const {
    const auto full = std::ranges::find(report_.columns, Budget(), &ReportColumn::budget);
    return static_cast<size_t>(full - report_.columns.begin());
  }

  void add_totals() {
    for (const auto& task : run_.settings.at("tasks")) {
      report_.expected += task.at("samples").get<size_t>();
    }
    report_.finished = run_.results.size();
    size_t answered = 0;
    for (const SampleResult& result : run_.results) {
      report_.seconds += result.seconds;
      report_.peak_bytes = std::max(report_.peak_bytes, result.peak_bytes);
      report_.longest_prompt = std::max(report_.longest_prompt, result.prompt_tokens);
      if (result.error.empty()) {
        ++answered;
        report_.prefill_seconds += result.prefill_seconds;
      } else {
        report_.failures.push_back(fmt::format(
            "{}/{}: {}", result.task, result.id.empty() ? std::to_string(result.index) : result.id,
            result.error));
      }
    }
    if (answered > 0) report_.prefill_seconds /= static_cast<double>(answered);
  }

  using Strata = std::vector<std::vector<size_t>>;

  /// Whether the figures of all rows are means of enough samples for intervals.
  [[nodiscard]] bool has_intervals(const Strata& strata) const {
    for (const auto& stratum : strata) {
      for (const size_t row : stratum) {
        if (means_[row].empty() || report_.rows[row].samples < kFewestForIntervals) return false;
      }
    }
    return true;
  }

  /// Interval of the mean over rows of column `c`, minus that of column `from` if there is one.
  /// Samples are drawn within their rows, so that every row keeps its weight.
  [[nodiscard]] Bounds bounds(const Strata& strata, size_t c, std::optional<size_t> from) const {
    const Interval interval = bootstrap(0,
                                        [&](Random& random) {
                                          return mean_over(strata, [&](size_t row) {
                                            const std::vector<double>& a = means_[row][c];
                                            double sum = 0;
                                            for (size_t i = 0; i < a.size(); ++i) {
                                              const size_t drawn = random.below(a.size());
                                              sum +=
                                                  a[drawn] - (from ? means_[row][*from][drawn] : 0);
                                            }
                                            return sum / static_cast<double>(a.size());
                                          });
                                        },
                                        {.resamples = 2000});
    return {interval.low, interval.high};
  }

  /// Means over rows; `strata` groups them (RULER: the mean over lengths of means over tasks).
  [[nodiscard]] ReportGroup group(std::string name, const Strata& strata) const {
    ReportGroup result;
    result.name = std::move(name);
    for (const auto& stratum : strata) {
      for (const size_t row : stratum) {
        result.rows.push_back(row);
        result.samples += report_.rows[row].samples;
      }
    }
    const bool intervals = has_intervals(strata);
    const size_t full = full_column();
    for (size_t c = 0; c < report_.columns.size(); ++c) {
      ReportMean& mean_of_column = result.means.emplace_back();
      const auto figure = [&](size_t of) {
        return mean_over(
            strata, [&](size_t row) { return main_figure(report_.rows[row].cells[of].figures); });
      };
      mean_of_column.figure = figure(c);
      if (intervals) mean_of_column.bounds = bounds(strata, c, std::nullopt);
      if (c == full || full >= report_.columns.size() || result.rows.empty()) continue;
      Difference& difference = mean_of_column.difference.emplace();
      difference.mean = mean_of_column.figure - figure(full);
      if (intervals) difference.bounds = bounds(strata, c, full);
    }
    return result;
  }

  static double mean_over(const std::vector<std::vector<size_t>>& strata,
                          const std::function<double(size_t row)>& figure) {
    double sum = 0;
    for (const auto& stratum : strata) {
      double part = 0;
      for (const size_t row : stratum) part += figure(row);
      sum += part / static_cast<double>(stratum.size());
    }
    return strata.empty() ? kNaN : sum / static_cast<double>(strata.size());
  }

  /// "20000 tokens, cut to 8032" if prompts cannot have this length.
  [[nodiscard]] std::string name_of_length(const std::optional<size_t>& length,
                                           const std::vector<size_t>& rows) const {
    if (!length) return "";
    size_t longest_cut = 0;
    for (const size_t row : rows)
      longest_cut = std::max(longest_cut, report_.rows[row].longest_cut);
    return fmt::format("{} tokens{}", *length,
                       longest_cut > 0 ? fmt::format(", cut to {}", longest_cut) : "");
  }

  void add_groups() {
    std::map<std::optional<size_t>, std::vector<size_t>> by_length;
    std::vector<std::pair<std::string, std::vector<size_t>>> by_category;
    for (size_t r = 0; r < report_.rows.size(); ++r) {
      const ReportRow& row = report_.rows[r];
      if (row.samples == 0) continue;
      by_length[row.length].push_back(r);
      auto category = std::ranges::find(by_category, row.category,
                                        &std::pair<std::string, std::vector<size_t>>::first);
      if (category == by_category.end())
        category = by_category.insert(category, {row.category, {}});
      category->second.push_back(r);
    }
    for (const auto& [length, rows] : by_length) {
      report_.lengths.push_back(group(name_of_length(length, rows), {rows}));
      strata_.push_back(rows);
    }
    report_.overall = group("all", strata_);
    // A category of one task is that task.
    const bool has_several = std::ranges::any_of(by_category, [&](const auto& category) {
      return std::ranges::any_of(category.second, [&](size_t row) {
        return report_.rows[row].task != report_.rows[category.second.front()].task;
      });
    });
    if (by_category.size() < 2 || !has_several) return;
    for (const auto& [name, rows] : by_category) {
      report_.categories.push_back(group(name, {rows}));
    }
  }

  void add_leads() {
    std::map<Budget, std::vector<size_t>> by_budget;
    for (size_t c = 0; c < report_.columns.size(); ++c) {
      if (report_.columns[c].budget != Budget()) by_budget[report_.columns[c].budget].push_back(c);
    }
    const double sign = report_.lower_is_better() ? -1 : 1;
    const auto figure = [&](size_t c) { return sign * report_.overall.means[c].figure; };
    for (auto& [budget, columns] : by_budget) {
      std::erase_if(columns, [&](size_t c) { return std::isnan(figure(c)); });
      if (columns.empty()) continue;
      std::ranges::stable_sort(columns, std::ranges::greater{}, figure);
      ReportLead& lead = report_.leads.emplace_back();
      lead.budget = budget;
      for (const size_t c : columns) {
        if (figure(c) == figure(columns.front())) {
          lead.best.push_back(c);
        } else if (!lead.second) {
          lead.second = c;
        }
      }
      if (!lead.second) continue;
      lead.lead.mean = figure(lead.best.front()) - figure(*lead.second);
      if (!has_intervals(strata_)) continue;
      const Bounds way = bounds(strata_, lead.best.front(), lead.second);
      lead.lead.bounds = sign > 0 ? way : Bounds{-way.high, -way.low};
    }
  }

  void add_heat_map() {
    std::set<size_t> lengths;
    std::set<double> depths;
    // Grouped by length and depth, then by column.
    std::map<std::pair<size_t, double>, std::vector<std::vector<Scores>>> cells;
    std::string task;
    for (const SampleResult& result : run_.results) {
      if (!result.length || !result.depth || result.cells.empty()) continue;
      lengths.insert(*result.length);
      depths.insert(*result.depth);
      task = result.task;
      auto& columns = cells[{*result.length, *result.depth}];
      columns.resize(report_.columns.size());
      for (const CellResult& cell : result.cells) {
        columns[column_of(cell.cell)].push_back(cell.scores);
      }
    }
    if (cells.empty()) return;
    HeatMap& map = report_.heat_map.emplace();
    map.lengths.assign(lengths.begin(), lengths.end());
    map.depths.assign(depths.begin(), depths.end());
    map.figures.assign(report_.columns.size(),
                       std::vector<double>(lengths.size() * depths.size(), kNaN));
    for (const auto& [place, columns] : cells) {
      const auto l = std::ranges::lower_bound(map.lengths, place.first) - map.lengths.begin();
      const auto d = std::ranges::lower_bound(map.depths, place.second) - map.depths.begin();
      const size_t at = static_cast<size_t>(l) * map.depths.size() + static_cast<size_t>(d);
      for (size_t c = 0; c < columns.size(); ++c) {
        map.figures[c][at] = main_figure(summarize_(task, columns[c]));
      }
    }
  }

  void add_samples() {
    std::map<std::string_view, bool> lower_is_better;
    for (const auto& task : run_.settings.at("tasks")) {
      lower_is_better[task.at("name").text()] = task.at("lower_is_better").get<bool>();
    }
    for (const SampleResult& result : run_.results) {
      if (!result.error.empty()) continue;
      ReportSample& sample = report_.samples.emplace_back();
      sample.task = result.task;
      sample.id = result.id.empty() ? std::to_string(result.index) : result.id;
      sample.prompt_tokens = result.prompt_tokens;
      sample.prompt_end = result.prompt_end;
      sample.reference = reference_text(result.reference);
      sample.lower_is_better = lower_is_better[result.task];
      sample.answers.resize(report_.columns.size());
      for (const CellResult& cell : result.cells) {
        sample.answers[column_of(cell.cell)] = {answer_text(cell.answer), main_figure(cell.scores)};
      }
    }
    std::ranges::stable_partition(report_.samples, &ReportSample::differs);
  }

  const Run& run_;
  RunReport& report_;
  Strata strata_;  // rows by length
  std::function<Scores(std::string_view, std::span<const Scores>)> summarize_;
  std::vector<std::vector<std::vector<double>>> means_;  // [row][column][sample]
};

}  // namespace

std::vector<Run> load_runs(std::span<const fs::path> folders) {
  std::vector<Run> runs;
  std::vector<std::set<std::pair<std::string, size_t>>> seen;
  for (const fs::path& folder : folders) {
    const Json file = read_run(folder);
    auto run = std::ranges::find(runs, file.at("settings"), &Run::settings);
    if (run == runs.end()) {
      run = runs.insert(
          run, {.settings = file.at("settings"),
                .circumstances =
                    file.contains("circumstances") ? file.at("circumstances") : Json::object(),
                .folders = {},
                .results = {}});
      seen.emplace_back();
    }
    run->folders.push_back(folder);
    auto& done = seen[static_cast<size_t>(run - runs.begin())];
    for (SampleResult& result : read_results(folder)) {
      if (done.emplace(result.task, result.index).second) run->results.push_back(std::move(result));
    }
  }
  return runs;
}

RunReport report_of(const Run& run) {
  try {
    check_settings(run.settings);
    check_circumstances(run.circumstances);
  } catch (const Error& e) {
    throw Error(ErrorCode::kInput,
                fmt::format("{}/run.json: {}; it is damaged or was made by another version",
                            run.folders.front().string(), e.what()));
  }
  RunReport report;
  Summary(run, report).make();
  return report;
}

std::string RunReport::title() const {
  const auto profile = settings.value("profile", std::string("default"));
  std::string text = settings.at("benchmark").get<std::string>() +
                     (profile == "default" ? "" : fmt::format(" (profile {})", profile));
  if (const Json* recipe = settings.find("recipe")) {
    text += fmt::format(", {}", recipe->at("title").get<std::string>());
  }
  return text;
}

std::string RunReport::question() const {
  const Json* recipe = settings.find("recipe");
  return recipe == nullptr ? "" : recipe->at("question").get<std::string>();
}

std::string RunReport::model() const {
  return circumstances.value("model", settings.at("model").at("file").text());
}

bool RunReport::few_samples() const {
  return std::ranges::any_of(rows,
                             [](const auto& row) { return row.samples < kFewestForIntervals; });
}

bool ReportSample::differs() const {
  return std::ranges::any_of(answers, [&](const ReportAnswer& answer) {
    const double first = answers.front().score;
    return answer.score != first && !(std::isnan(answer.score) && std::isnan(first));
  });
}

bool RunReport::lower_is_better() const {
  return !rows.empty() && std::ranges::all_of(rows, &ReportRow::lower_is_better);
}

std::vector<bool> best_of_budgets(std::span<const ReportColumn> columns,
                                  std::span<const double> figures, bool lower_is_better) {
  std::vector<bool> best(columns.size());
  for (size_t c = 0; c < columns.size(); ++c) {
    bool beats_one = false;
    bool beaten = std::isnan(figures[c]);
    for (size_t o = 0; o < columns.size(); ++o) {
      if (columns[o].budget != columns[c].budget || std::isnan(figures[o])) continue;
      const double lead = lower_is_better ? figures[o] - figures[c] : figures[c] - figures[o];
      beats_one = beats_one || lead > 0;
      beaten = beaten || lead < 0;
    }
    best[c] = beats_one && !beaten;
  }
  return best;
}

}  // namespace restkv::eval
