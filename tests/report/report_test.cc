#include "report/report.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <limits>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "report/chart_style.h"
#include "report/markup.h"
#include "report/report_tables.h"
#include "restkv/error.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv::eval {
namespace {

using ::restkv::testing::TemporaryFolder;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

using restkv::testing::refusal;

Json task(const std::string& name, const std::string& category, size_t samples) {
  return {{"name", name},           {"category", category}, {"samples", samples},
          {"published_samples", 0}, {"subset", false},      {"lower_is_better", false},
          {"files", Json::array()}};
}

Json cell(const std::string& method, int budget) {
  return {{"name", budget == 0 ? method : fmt::format("{}@{}", method, budget)},
          {"method", method},
          {"budget", budget},
          {"parameters", {{"window", "32"}}}};
}

/// A run of three columns: the full cache, and two methods at budget 64.
Run empty_run() {
  Run run;
  run.settings = {{"version", "0.0.1"},
                  {"benchmark", "handmade"},
                  {"profile", "official"},
                  {"remark", "difflib"},
                  {"model",
                   {{"file", "m.gguf"},
                    {"name", "M"},
                    {"weights", "f32"},
                    {"context", 512},
                    {"sha256", "0123"}}},
                  {"limit", 0},
                  {"seed", 42},
                  {"max_prompt", 300},
                  {"chat_template", true},
                  {"decoding", "greedy"},
                  {"choices", "compressed"},
                  {"kv_type", "f16"},
                  {"cells", {cell("full", 0), cell("snapkv", 64), cell("restkv", 64)}},
                  {"tasks", Json::array()},
                  {"skipped_lines", Json::array()}};
  run.circumstances = {{"machine", "test bench"}, {"started", "today"}};
  run.folders = {"made/by/hand"};
  return run;
}

/// The figures are those of the columns, in order.
SampleResult sample(const std::string& name, size_t index, const std::vector<double>& figures) {
  SampleResult result;
  result.task = name;
  result.index = index;
  result.id = fmt::format("{}-{}", name, index);
  result.prompt_tokens = 100;
  result.prefill_seconds = 2;
  result.seconds = 3;
  result.peak_bytes = (index + 1) << 20U;
  const std::vector<std::string> names{"full", "snapkv@64", "restkv@64"};
  for (size_t c = 0; c < figures.size(); ++c) {
    CellResult& to = result.cells.emplace_back();
    to.cell = names.at(c);
    to.scores = {{"f1", figures[c]}, {"exact", figures[c] == 1 ? 1.0 : 0.0}};
    to.kv_bytes = (c + 1) << 20U;
    to.compress_seconds = 0.5;
    to.decode_seconds = 0.25;
    to.decode_steps = 10;
  }
  return result;
}

/// Two tasks of two categories; one sample of "qa" failed.
Run two_tasks() {
  eval::Run run = empty_run();
  run.settings["tasks"] = {task("qa", "single", 4), task("sum", "summaries", 2)};
  run.results = {sample("qa", 0, {1, 0, 0.5}),      sample("qa", 1, {1, 0.5, 0.5}),
                 sample("qa", 2, {0.5, 0, 0.25}),   sample("qa", 3, {}),
                 sample("sum", 0, {0.2, 0.2, 0.2}), sample("sum", 1, {0.4, 0.4, 0.3})};
  run.results[3].error = "too long";
  run.results[5].cut_from = 500;
  return run;
}

TEST(Report, SaysWhatTheRecipeAsks) {
  eval::Run run = two_tasks();
  EXPECT_EQ(report_of(run).question(), "");
  run.settings["recipe"] = {
      {"name", "mine"}, {"title", "Ours or theirs"}, {"question", "Which?"}, {"source", "a paper"}};
  const std::vector reports{report_of(run)};
  const std::vector<std::vector<Picture>> no_pictures(1);
  EXPECT_EQ(reports[0].title(), "handmade (profile official), Ours or theirs");
  for (const std::string& text : {markdown(reports, no_pictures), page(reports, no_pictures)}) {
    EXPECT_THAT(text, HasSubstr("Ours or theirs: m.gguf"));
    EXPECT_THAT(text, HasSubstr("Which?"));
    EXPECT_THAT(text, HasSubstr("a paper"));
  }
}

TEST(Report, FiguresAreMeansOfTheSamples) {
  const RunReport report = report_of(two_tasks());
  EXPECT_EQ(report.title(), "handmade (profile official)");
  EXPECT_EQ(report.model(), "m.gguf");
  EXPECT_FALSE(report.lower_is_better());
  ASSERT_EQ(report.rows.size(), 2U);
  const ReportRow& qa = report.rows[0];
  EXPECT_EQ(qa.task, "qa");
  EXPECT_EQ(qa.samples, 3U);
  EXPECT_EQ(qa.failed, 1U);
  EXPECT_EQ(qa.cells[0].figures.at(0).first, "f1");
  EXPECT_NEAR(qa.cells[0].figures.at(0).second, 100 * 2.5 / 3, 1e-9);
  EXPECT_NEAR(qa.cells[1].figures.at(0).second, 100 * 0.5 / 3, 1e-9);
  EXPECT_NEAR(qa.cells[0].figures.at(1).second, 100 * 2.0 / 3, 1e-9);
  EXPECT_EQ(report.rows[1].cut, 1U);

  EXPECT_EQ(report.expected, 6U);
  EXPECT_EQ(report.finished, 6U);
  EXPECT_EQ(report.seconds, 18);
  EXPECT_EQ(report.prefill_seconds, 2);
  EXPECT_EQ(report.peak_bytes, 4U << 20U);
  EXPECT_THAT(report.failures, ElementsAre("qa/qa-3: too long"));
  EXPECT_EQ(report.columns[1].kv_mib, 2);
  EXPECT_EQ(report.columns[1].compress_seconds, 0.5);
  EXPECT_EQ(report.columns[1].decode_tokens_per_second, 40);
}

TEST(Report, MeansWeighTasksAlike) {
  const RunReport report = report_of(two_tasks());
  const double qa = 100 * 2.5 / 3;
  EXPECT_NEAR(report.overall.means[0].figure, (qa + 30) / 2, 1e-9);
  EXPECT_EQ(report.overall.samples, 5U);
  ASSERT_EQ(report.lengths.size(), 1U);
  EXPECT_EQ(report.lengths[0].name, "");
}

/// `two_tasks` often enough for intervals.
Run many_samples() {
  eval::Run run = two_tasks();
  std::erase_if(run.results, [](const SampleResult& result) { return !result.error.empty(); });
  const std::vector<SampleResult> once = run.results;
  run.results.clear();
  std::map<std::string, size_t> count;
  for (int again = 0; again < 6; ++again) {
    for (SampleResult result : once) {
      result.index = count[result.task]++;
      run.results.push_back(std::move(result));
    }
  }
  for (size_t t = 0; t < 2; ++t) {
    Json& task = run.settings["tasks"][t];
    task["samples"] = count[task.at("name").text()];
  }
  return run;
}

TEST(Report, DifferencesArePaired) {
  const RunReport report = report_of(many_samples());
  const ReportRow& qa = report.rows[0];
  EXPECT_EQ(qa.samples, 18U);
  EXPECT_FALSE(qa.cells[0].difference) << "the full cache itself";
  ASSERT_TRUE(qa.cells[2].difference && qa.cells[2].difference->bounds);
  // Samples differ by -50, -50 and -25: any resample lies between.
  EXPECT_NEAR(qa.cells[2].difference->mean, -125.0 / 3, 1e-9);
  EXPECT_GE(qa.cells[2].difference->bounds->low, -50);
  EXPECT_LE(qa.cells[2].difference->bounds->high, -25);
  EXPECT_LT(qa.cells[2].difference->bounds->low, qa.cells[2].difference->bounds->high);
  EXPECT_TRUE(qa.cells[2].difference->clear());
  // Equal samples have no spread, however far apart they lie.
  const ReportRow& sum = report.rows[1];
  ASSERT_TRUE(sum.cells[1].difference->bounds);
  EXPECT_EQ(sum.cells[1].difference->bounds->low, 0);
  EXPECT_EQ(sum.cells[1].difference->bounds->high, 0);
  EXPECT_FALSE(sum.cells[1].difference->clear());
  // The mean of both tasks: between (-50 - 10) / 2 and (-25 + 0) / 2.
  const auto& overall = report.overall.means[2].difference;
  ASSERT_TRUE(overall && overall->bounds);
  EXPECT_NEAR(overall->mean, (-125.0 / 3 - 5) / 2, 1e-9);
  EXPECT_GE(overall->bounds->low, -30);
  EXPECT_LT(overall->bounds->low, overall->mean);
  EXPECT_LE(overall->bounds->high, -12.5);
  EXPECT_GT(overall->bounds->high, overall->mean);
  // The figure's own interval.
  const ReportMean& mean = report.overall.means[2];
  ASSERT_TRUE(mean.bounds);
  EXPECT_LT(mean.bounds->low, mean.figure);
  EXPECT_GT(mean.bounds->high, mean.figure);
}

TEST(Report, FewSamplesHaveNoIntervalsAndNothingIsClear) {
  const RunReport report = report_of(two_tasks());
  EXPECT_TRUE(report.few_samples());
  for (const ReportRow& row : report.rows) {
    ASSERT_TRUE(row.cells[2].difference);
    EXPECT_FALSE(row.cells[2].difference->bounds);
    EXPECT_FALSE(row.cells[2].difference->clear());
  }
  EXPECT_FALSE(report.overall.means[2].bounds);
  EXPECT_FALSE(report.overall.means[2].difference->bounds);
  EXPECT_FALSE(report.leads.at(0).lead.bounds);
  for (const Table& table : difference_tables(report)) {
    for (const auto& row : table.rows) {
      for (const TableCell& cell : row) EXPECT_FALSE(cell.strong) << cell.text;
    }
  }
  EXPECT_THAT(verdict(report).back(), HasSubstr("fewer than 10 samples"));
  EXPECT_FALSE(report_of(many_samples()).few_samples());
}

TEST(Report, TheVerdictNamesTheBestOfEachBudget) {
  eval::Run run = many_samples();
  const double restkv = (125.0 / 3 + 25) / 2;
  const double snapkv = (50.0 / 3 + 30) / 2;
  EXPECT_THAT(verdict(report_of(run)),
              ElementsAre(AllOf(
                  StartsWith(fmt::format("64 tokens kept: restkv is best with {:.1f}, {:.1f} ahead "
                                         "of snapkv (95%: +",
                                         restkv, restkv - snapkv)),
                  HasSubstr("23.3 below the full cache (95%: -"))));
  for (SampleResult& result : run.results) result.cells[1].scores = result.cells[2].scores;
  EXPECT_THAT(verdict(report_of(run)),
              ElementsAre(StartsWith("64 tokens kept: snapkv and restkv are equal with 33.3")));
  for (SampleResult& result : run.results) result.prompt_tokens = 50;
  EXPECT_THAT(verdict(report_of(run)), ElementsAre(HasSubstr("nothing was evicted")));
  EXPECT_EQ(what_was_run(report_of(run)),
            "handmade (profile official), m.gguf: 2 tasks, 30 samples with prompts of up to 50 "
            "tokens; 2 methods with 64 kept per layer and KV head, beside the full cache.");
}

TEST(Report, LeadsOfWhatIsBetterIfLowerAreTurnedRound) {
  eval::Run run = many_samples();
  for (size_t t = 0; t < 2; ++t) run.settings["tasks"][t]["lower_is_better"] = true;
  const ReportLead lead = report_of(run).leads.at(0);
  EXPECT_EQ(lead.best, std::vector<size_t>{1}) << "snapkv";
  EXPECT_EQ(lead.second, 2U);
  EXPECT_GT(lead.lead.mean, 0);
  ASSERT_TRUE(lead.lead.bounds);
  EXPECT_LT(lead.lead.bounds->low, lead.lead.mean);
  EXPECT_GT(lead.lead.bounds->high, lead.lead.mean);
}

TEST(Report, SamplesShowWhatMethodsSaid) {
  eval::Run run = two_tasks();
  run.results[0].prompt_end = "Where was <Ada> born?";
  run.results[0].reference = Json::array({"London", "in London"});
  run.results[0].cells[0].answer.text = "In London.";
  run.results[0].cells[1].answer.text = "I know & forget.";
  run.results[4].cells[0].answer.log_likelihoods = {-3, -1, -2};
  const RunReport report = report_of(run);
  ASSERT_EQ(report.samples.size(), 5U) << "one failed";
  EXPECT_EQ(report.samples[0].task, "qa");
  EXPECT_EQ(report.samples.back().id, "sum-0") << "that all methods answer alike";
  EXPECT_EQ(report.samples.back().answers[0].text, "choice 2 of 3 (log-likelihoods -3, -1, -2)");
  const std::vector<RunReport> reports{report};
  const std::string html = page(reports, std::vector<std::vector<Picture>>(1));
  EXPECT_EQ(markup_error(html), "");
  for (const char* part : {"Where was &lt;Ada&gt; born?", "London; in London",
                           "✓ right<p>In London.</p>", "✗ wrong<p>I know &amp; forget.</p>",
                           "◐ 0.50", "qa, qa-0: 1 of 3 right", "did not record prompts"}) {
    EXPECT_THAT(html, HasSubstr(part));
  }
}

TEST(Report, NamesTheModelByItsFile) {
  eval::Run run = two_tasks();
  run.settings["model"]["file"] = "model.gguf";
  run.circumstances["model"] = "Small-1B.Q4_K.gguf";
  EXPECT_EQ(report_of(run).model(), "Small-1B.Q4_K.gguf");
  EXPECT_THAT(terminal_table(report_of(run)), StartsWith("handmade (profile official), Small-1B"));
}

TEST(Report, CategoriesOfOneTaskEachAreNotRepeated) {
  eval::Run run = two_tasks();
  EXPECT_THAT(report_of(run).categories, IsEmpty());
  run.settings["tasks"].push_back(task("qa2", "single", 1));
  run.results.push_back(sample("qa2", 0, {1, 1, 1}));
  EXPECT_EQ(report_of(run).categories.size(), 2U);
}

TEST(Report, MarksTheBestOfABudget) {
  std::vector<ReportColumn> columns(6);
  for (size_t c = 1; c < 3; ++c) columns[c].budget.tokens = 64;
  for (size_t c = 3; c < 6; ++c) columns[c].budget.tokens = 128;
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(best_of_budgets(columns, std::vector<double>{9, 2, 1, 3, kNaN, 3}, false),
              ElementsAre(false, true, false, false, false, false))
      << "alone, best, worse, and two that beat nobody";
  EXPECT_THAT(best_of_budgets(columns, std::vector<double>{9, 2, 1, 3, 4, 3}, true),
              ElementsAre(false, false, true, true, false, true));
}

Run with_lengths() {
  eval::Run run = empty_run();
  run.settings["tasks"] = {task("niah@100", "retrieval", 2), task("niah@200", "retrieval", 2),
                           task("vt@200", "tracing", 1)};
  const auto placed = [](SampleResult result, size_t length, double depth) {
    result.length = length;
    result.depth = depth;
    return result;
  };
  run.results = {placed(sample("niah@100", 0, {1, 1, 1}), 100, 0),
                 placed(sample("niah@100", 1, {1, 0, 1}), 100, 0.5),
                 placed(sample("niah@200", 0, {1, 0, 0}), 200, 0),
                 placed(sample("niah@200", 1, {1, 0, 1}), 200, 0.5),
                 sample("vt@200", 0, {0, 0, 0})};
  run.results[4].length = 200;
  return run;
}

TEST(Report, GroupsByLength) {
  const RunReport report = report_of(with_lengths());
  ASSERT_EQ(report.rows.size(), 3U);
  EXPECT_EQ(report.rows[1].task, "niah") << "without its length";
  EXPECT_EQ(report.rows[1].length, 200U);
  ASSERT_EQ(report.lengths.size(), 2U);
  EXPECT_EQ(report.lengths[1].name, "200 tokens");
  EXPECT_NEAR(report.lengths[0].means[2].figure, 100, 1e-9);
  EXPECT_NEAR(report.lengths[1].means[2].figure, 25, 1e-9) << "mean of 50 and 0";
  EXPECT_NEAR(report.overall.means[2].figure, 62.5, 1e-9) << "mean over the lengths";
  ASSERT_TRUE(report.heat_map);
  EXPECT_THAT(report.heat_map->lengths, ElementsAre(100U, 200U));
  EXPECT_THAT(report.heat_map->depths, ElementsAre(0, 0.5));
  EXPECT_THAT(report.heat_map->figures[1], ElementsAre(100, 0, 0, 0));
  EXPECT_THAT(report.heat_map->figures[2], ElementsAre(100, 100, 0, 100));
}

TEST(Report, TablesSayWhatMustBeKnown) {
  eval::Run run = two_tasks();
  run.settings["tasks"][0]["subset"] = true;
  run.settings["tasks"][1]["notes"] = {"project-defined"};
  run.settings["skipped_lines"] = {{{"file", "qa.jsonl"}, {"line", 7}, {"reason", "no answer"}}};
  run.results.pop_back();
  const std::vector<RunReport> reports{report_of(run)};
  const std::vector<std::vector<Picture>> images{pictures(reports[0], "1-handmade")};
  const std::string text = markdown(reports, images);
  for (const char* part : {"## handmade (profile official): m.gguf",
                           "Not complete: 5 of 6 samples",
                           "Tasks marked † are subsets",
                           "too long",
                           "qa.jsonl:7: no answer",
                           "project-defined",
                           "| budget | method | qa† | sum | mean |",
                           "| all | full | 83.3 | 20.0 | 51.7 |",
                           "| 64 | restkv | **41.7** | 20.0 | **30.8** |",
                           "| n | samples | 3 | 1 | 4 |",
                           "| 64 | restkv | -41.7 | +0.0 | -20.8 |",
                           "- 64 tokens kept: restkv is best with 30.8, 12.5 ahead of snapkv; the "
                           "full cache has 51.7.",
                           "| model SHA-256 | 0123 |",
                           "| prompt limit | 300 tokens |",
                           "| chat template | yes |",
                           "| decoding | greedy |",
                           "restkv 0.0.1",
                           "test bench",
                           "difflib",
                           "window=32",
                           "1-handmade-budget.svg",
                           "Suites without a run here: "}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  const std::string html = page(reports, images);
  EXPECT_THAT(html, HasSubstr("<strong>41.7</strong>"));
  EXPECT_EQ(markup_error(html), "");
  EXPECT_THAT(html, Not(HasSubstr("src=")));
  EXPECT_LT(html.find("restkv is best"), html.find("<svg")) << "what came out is said first";
  for (const char* part : {"<main>", "<nav ", "href=\"#run-1-samples\"", "id=\"run-1-samples\"",
                           "<caption>Scores</caption>", "<th scope=\"col\"", "<th scope=\"row\""}) {
    EXPECT_THAT(html, HasSubstr(part));
  }
  EXPECT_THAT(terminal_table(reports[0]), HasSubstr("*41.7"));
}

/// All that a report consists of.
std::string everything(const eval::Run& run) {
  const std::vector<RunReport> reports{report_of(run)};
  const std::vector<std::vector<Picture>> images{pictures(reports[0], "p")};
  std::string text = markdown(reports, images) + page(reports, images) + csv(reports) +
                     report_json(reports).dump() + terminal_table(reports[0]) + reports[0].title();
  for (const Picture& image : images[0]) text += image.svg;
  return text;
}

/// Adds `place`, which is where `json` stands, and the places of all that is in it:
/// "/tasks/0/name".
void add_places(const Json& json, const std::string& place, std::vector<std::string>& places) {
  places.push_back(place);
  if (json.is_object()) {
    for (const auto& [name, value] : json.items()) add_places(value, place + '/' + name, places);
  } else if (json.is_array()) {
    for (size_t i = 0; i < json.size(); ++i) {
      add_places(json[i], fmt::format("{}/{}", place, i), places);
    }
  }
}

Json& at_place(Json& json, std::string_view place) {
  if (place.empty()) return json;
  const size_t end = std::min(place.find('/', 1), place.size());
  const std::string part(place.substr(1, end - 1));
  return at_place(json.is_array() ? json.at(std::stoul(part)) : json.at(part), place.substr(end));
}

TEST(Report, RefusesDamagedSettingsByTheNameOfTheField) {
  eval::Run whole = two_tasks();
  whole.settings["recipe"] = {
      {"name", "mine"}, {"title", "Ours"}, {"question", "Which?"}, {"source", "a paper"}};
  whole.settings["shots"] = 2;
  whole.settings["bos"] = true;
  whole.settings["sparse"] = "dense";
  whole.settings["tasks"][0]["files"] = {{{"file", "a.jsonl"}, {"sha256", "12"}}};
  whole.settings["tasks"][0]["notes"] = {"a note"};
  whole.settings["skipped_lines"] = {{{"file", "a.jsonl"}, {"line", 7}, {"reason", "empty"}}};
  for (SampleResult& result : whole.results) result.place = "results.jsonl:1";
  everything(whole);
  // Every value, and every list and object around it, as something else.
  std::vector<std::string> places;
  for (const auto& [name, value] : whole.settings.items()) add_places(value, "/" + name, places);
  ASSERT_GT(places.size(), 60U);
  size_t refused = 0;
  for (const std::string& place : places) {
    for (const Json& other : {Json(7), Json(-1), Json("x"), Json(nullptr), Json(true),
                              Json(Json::array({1})), Json(Json::object({{"a", 1}}))}) {
      eval::Run run = whole;
      at_place(run.settings, place) = other;
      try {
        everything(run);
      } catch (const Error& e) {
        ++refused;
        EXPECT_EQ(e.code(), ErrorCode::kInput);
        EXPECT_THAT(e.what(), AnyOf(HasSubstr("made/by/hand"), HasSubstr(":1:"))) << place;
      } catch (const std::exception& e) {
        ADD_FAILURE() << place << " = " << other << ": " << e.what();
      }
    }
  }
  EXPECT_GT(refused, 200U);
  for (const Json& other : {Json(7), Json("x"), Json(nullptr), Json({{"machine", 7}})}) {
    eval::Run run = whole;
    run.circumstances = other;
    EXPECT_THAT(refusal(ErrorCode::kInput, [&] { everything(run); }),
                HasSubstr("made/by/hand/run.json: "));
  }
  whole.settings["tasks"][0]["files"] = 7;
  EXPECT_EQ(refusal(ErrorCode::kInput, [&] { report_of(whole); }),
            "made/by/hand/run.json: field 'files' must be a list, not 7; it is damaged or was made "
            "by another version");
}

TEST(Report, RefusesResultsThatDoNotBelongToTheRun) {
  eval::Run run = two_tasks();
  for (SampleResult& result : run.results) result.place = "results.jsonl:1";
  run.results[4].place = "results.jsonl:5";
  run.results[4].task = "other";
  EXPECT_THAT(refusal(ErrorCode::kInput, [&] { report_of(run); }),
              HasSubstr("results.jsonl:5: the result of a task 'other'"));
  run.results[4].task = "sum";
  run.results[5].cells[1].scores = {{"f2", 1}};
  EXPECT_THAT(refusal(ErrorCode::kInput, [&] { report_of(run); }), HasSubstr("other scores"));
  run = two_tasks();
  for (const char* suite : {"superglue", "perplexity"}) {
    run.settings["benchmark"] = suite;
    for (SampleResult& result : run.results) {
      for (CellResult& one : result.cells) one.scores.resize(1);
    }
    EXPECT_THAT(refusal(ErrorCode::kInput, [&] { report_of(run); }),
                HasSubstr(fmt::format("other scores than the suite {} gives", suite)));
  }
}

TEST(Report, NamesFromFilesAreNoMarkupAndNoCommands) {
  const std::string name = "[a](javascript:b)<img src=x>`c`|d\x1b[31m\u009b1m\u202e\n# e";
  eval::Run run = empty_run();
  run.settings["tasks"] = {task(name, name, 1), task("two", "c", 1)};
  run.settings["model"]["file"] = name;
  run.settings["recipe"] = {{"name", name}, {"title", name}, {"question", name}, {"source", name}};
  run.settings["skipped_lines"] = {{{"file", name}, {"line", name}, {"reason", name}}};
  run.circumstances["machine"] = name;
  run.results = {sample(name, 0, {1, 1, 1}), sample("two", 0, {})};
  run.results[1].error = name;
  const std::vector<RunReport> reports{report_of(run)};
  const std::vector<std::vector<Picture>> images{pictures(reports[0], "p")};
  const std::string text = markdown(reports, images);
  for (const char* foreign : {"\x1b", "\u009b", "\u202e", "\n# e"}) {
    EXPECT_THAT(text, Not(HasSubstr(foreign)));
  }
  for (const char* markup : {"](java", "<img", "`c", "|d"}) {
    for (size_t at = text.find(markup); at != std::string::npos; at = text.find(markup, at + 1)) {
      EXPECT_EQ(text.at(at - 1), '\\') << markup;
    }
  }
  EXPECT_THAT(text, HasSubstr("\\[a\\](javascript:b)\\<img src=x\\>\\`c\\`\\|d"));
  for (const char* foreign : {"<img", "\x1b", "\u009b", "\u202e"}) {
    EXPECT_THAT(page(reports, images) + images[0].at(0).svg, Not(HasSubstr(foreign)));
  }
  for (const char* foreign : {"\x1b", "\u009b", "\u202e"}) {
    EXPECT_THAT(csv(reports), Not(HasSubstr(foreign)));
  }
}

TEST(Report, CsvAndJsonHoldAllFigures) {
  const std::vector<RunReport> reports{report_of(two_tasks())};
  const std::string lines = csv(reports);
  EXPECT_THAT(lines, HasSubstr("handmade,official,m.gguf,sum,summaries,,no,2,0,full,0,f1,30,,,\n"));
  EXPECT_THAT(lines, HasSubstr("qa,single,,no,3,1,restkv,64,exact,0,,,\n"));
  // 2 tasks, 3 columns, 2 figures, and the header.
  EXPECT_EQ(std::ranges::count(lines, '\n'), 13);
  const Json json = report_json(reports);
  const Json& run = json.at("runs").at(0);
  const Json& difference = run.at("rows")[0].at("cells").at("restkv@64").at("difference");
  EXPECT_NEAR(difference.at("mean").get<double>(), -125.0 / 3, 1e-9);
  EXPECT_TRUE(difference.at("low").is_null()) << "three samples";
  const std::vector<RunReport> many{report_of(many_samples())};
  EXPECT_TRUE(report_json(many)
                  .at("runs")
                  .at(0)
                  .at("rows")[0]
                  .at("cells")
                  .at("restkv@64")
                  .at("difference")
                  .at("low")
                  .is_number());
  EXPECT_EQ(run.at("settings").at("model").at("sha256"), "0123");
  EXPECT_NEAR(run.at("overall").at("means").at("full").at("figure").get<double>(),
              (250.0 / 3 + 30) / 2, 1e-9);
}

TEST(Report, PicturesAreWellFormed) {
  const RunReport report = report_of(with_lengths());
  std::vector<std::string> names;
  for (const Picture& picture : pictures(report, "p")) {
    names.push_back(picture.file);
    EXPECT_EQ(markup_error(picture.svg), "");
  }
  EXPECT_THAT(names, ElementsAre("p-budget.svg", "p-length-64.svg", "p-depth.svg"));
  const std::string heat = pictures(report, "p")[2].svg;
  EXPECT_THAT(heat, HasSubstr("snapkv@64, 100 tokens, depth 50%: 0.0"));
  EXPECT_THAT(heat, HasSubstr("restkv@64, 200 tokens, depth 50%: 100.0"));
  const std::string budget = pictures(report, "p")[0].svg;
  EXPECT_THAT(budget, HasSubstr("restkv, 64: 62.50"));
  EXPECT_THAT(budget, HasSubstr(">100<")) << "the axis of scores, to whose end none comes";
  EXPECT_THAT(budget, HasSubstr("n = 5"));
  EXPECT_THAT(budget, Not(HasSubstr("class=\"bar"))) << "too few samples";
  EXPECT_THAT(pictures(report_of(many_samples()), "p")[0].svg, HasSubstr("class=\"bar s1\""));
  EXPECT_THAT(pictures(report, "p")[2].html, HasSubstr("<caption>restkv@64</caption>"));
  EXPECT_EQ(markup_error(pictures(report, "p")[2].html), "");
  EXPECT_THAT(pictures(report_of(empty_run()), "p"), IsEmpty());
}

/// The rules of a picture are those of the whole page that it stands in.
TEST(Report, PagesAndPicturesShareNoClasses) {
  const std::vector<RunReport> reports{report_of(with_lengths())};
  std::string html = page(reports, std::vector<std::vector<Picture>>{pictures(reports[0], "p")});
  for (size_t at = 0; (at = html.find("<svg")) != std::string::npos;) {
    html.erase(at, html.find("</svg>", at) - at);
  }
  const std::string style(kChartStyle);
  std::set<std::string> of_pictures;
  const std::regex rule("\\.([a-z][a-z0-9-]*)\\{");
  for (std::sregex_iterator it(style.begin(), style.end(), rule), end; it != end; ++it) {
    of_pictures.insert((*it)[1]);
  }
  of_pictures.erase("muted");  // the same colour in both
  EXPECT_THAT(of_pictures, ::testing::Contains("grid"));
  const std::regex classes("class=\"([^\"]*)\"");
  for (std::sregex_iterator it(html.begin(), html.end(), classes), end; it != end; ++it) {
    std::istringstream names((*it)[1]);
    for (std::string name; names >> name;) EXPECT_FALSE(of_pictures.contains(name)) << name;
  }
}

TEST(Report, LongNamesHaveRoomAboveTheirHeatMaps) {
  RunReport report = report_of(with_lengths());
  report.columns[1].name = std::string(60, 'x');
  report.columns[2].name = std::string(60, 'y');
  const std::string heat = pictures(report, "p")[2].svg;
  // A character of a name takes at least 6 pixels.
  const auto place = [&](const std::string& name) {
    const size_t begin = heat.rfind("<text x=\"", heat.find(">" + name + "<"));
    double x = 0;
    double y = 0;
    EXPECT_EQ(std::sscanf(heat.c_str() + begin, "<text x=\"%lf\" y=\"%lf\"", &x, &y), 2);
    return std::pair(x, y);
  };
  const auto [x1, y1] = place(report.columns[1].name);
  const auto [x2, y2] = place(report.columns[2].name);
  EXPECT_TRUE(y1 != y2 || x2 - x1 > 60 * 6) << x1 << " " << x2;
}

TEST(Report, LowerCanBeBetter) {
  eval::Run run = empty_run();
  run.settings["tasks"] = {task("ppl", "loss", 2)};
  run.settings["tasks"][0]["lower_is_better"] = true;
  run.results = {sample("ppl", 0, {0.2, 0.4, 0.3}), sample("ppl", 1, {0.2, 0.4, 0.3})};
  const RunReport report = report_of(run);
  EXPECT_TRUE(report.lower_is_better());
  const std::vector<RunReport> reports{report};
  const std::string text = markdown(reports, std::vector<std::vector<Picture>>(1));
  EXPECT_THAT(text, HasSubstr("| 64 | restkv | **30.00** |"));
  EXPECT_THAT(text, HasSubstr("| 64 | snapkv | 40.00 |"));
  EXPECT_THAT(text, HasSubstr("lower is better"));
}

TEST(Report, PutsShardsTogether) {
  const TemporaryFolder folder;
  const eval::Run whole = two_tasks();
  const std::vector<std::filesystem::path> folders{folder.file("a"), folder.file("b"),
                                                   folder.file("other")};
  Json other = whole.settings;
  other["seed"] = 43;
  for (size_t f = 0; f < folders.size(); ++f) {
    open_run(folders[f], f == 2 ? other : whole.settings, whole.circumstances);
    ResultsFile file(folders[f] / "results.jsonl");
    for (size_t i = 0; i < whole.results.size(); ++i) {
      const bool here = f == 2 ? i == 0 : i % 2 == f || i == 0;  // sample 0 is in both
      if (here) file.append(whole.results[i]);
    }
  }
  const auto runs = load_runs(folders);
  ASSERT_EQ(runs.size(), 2U);
  EXPECT_EQ(runs[0].results.size(), 6U);
  EXPECT_EQ(runs[1].results.size(), 1U);
  const RunReport merged = report_of(runs[0]);
  const RunReport direct = report_of(whole);
  for (size_t c = 0; c < 3; ++c) {
    EXPECT_DOUBLE_EQ(merged.overall.means[c].figure, direct.overall.means[c].figure);
  }
  EXPECT_EQ(merged.expected, merged.finished);
  EXPECT_EQ(report_of(runs[1]).expected, 6U);
}

TEST(Report, RefusesResultsOfOtherSettings) {
  eval::Run run = two_tasks();
  run.results[0].cells[1].cell = "tova@64";
  EXPECT_THROW(report_of(run), Error);
  run = two_tasks();
  run.results[0].cells.pop_back();
  EXPECT_THROW(report_of(run), Error);
  run = two_tasks();
  run.settings.erase("tasks");
  EXPECT_THROW(report_of(run), Error);
}

}  // namespace
}  // namespace restkv::eval
