#include "eval/suites/longbench/longbench.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "eval/jsonl.h"
#include "eval/suites/fill_template.h"
#include "eval/suites/longbench/metrics.h"
#include "eval/suites/record_task.h"

namespace restkv::eval {
namespace {

/// "official": chat template except for few-shot and code. "restkv": the ReST-KV evaluation, with
/// raw prompts; answers end with the end token only.
constexpr std::array<std::string_view, 2> kProfiles = {"official", "restkv"};

constexpr std::string_view kSource =
    "https://huggingface.co/datasets/THUDM/LongBench (data.zip: data/<dataset>.jsonl)";

Sample make_sample(const Json& record, const LongBenchDataset& dataset, bool official) {
  const Json& rules = benchmark_prompts().at("longbench").at("tasks").at(dataset.name);
  Sample sample;
  if (const Json* id = record.find("_id"); id != nullptr && id->is_string()) {
    sample.id = id->text();
  }
  FilledPrompt prompt = fill_prompt(
      rules.at("prompt").text(),
      {{"context", text_field(record, "context")}, {"input", text_field(record, "input")}});
  sample.prompt = std::move(prompt.text);
  sample.context_end = prompt.context_end;
  sample.max_new_tokens = rules.at("max_new_tokens").get<size_t>();
  sample.always_raw = !official || rules.at("original_skips_chat_template").get<bool>();
  sample.stop_at_newline_token = official && rules.at("original_extra_stop_newline").get<bool>();
  sample.min_new_tokens = official && !sample.stop_at_newline_token ? 0 : 1;

  const std::vector<std::string> answers = filled_texts_field(record, "answers");
  const std::vector<std::string> classes = filled_texts_if_any(record, "all_classes");
  require_judgeable(dataset.metric, answers, classes);
  sample.reference = {{"answers", answers}, {"length", count_field(record, "length")}};
  if (!classes.empty()) sample.reference["all_classes"] = classes;
  return sample;
}

Scores score(const LongBenchDataset& dataset, const Sample& sample, const Answer& answer) {
  const auto answers = sample.reference.at("answers").get<std::vector<std::string>>();
  const std::vector<std::string> classes = filled_texts_if_any(sample.reference, "all_classes");
  return {{std::string(name_of(dataset.metric)),
           longbench_score(dataset, answer.text, answers, classes)},
          {"length", sample.reference.at("length").get<double>()}};
}

/// The mean, and LongBench-E's means over the records of a range of lengths.
Scores summarize(std::string_view /*task*/, std::span<const Scores> samples) {
  std::vector<double> all;
  std::array<std::vector<double>, kLongBenchBins.size()> bins;
  for (const Scores& sample : samples) {
    all.push_back(sample.at(0).second);
    bins.at(longbench_bin(static_cast<size_t>(sample.at(1).second))).push_back(all.back());
  }
  if (all.empty()) return {};
  const std::string& metric = samples[0][0].first;
  Scores scores{{metric, longbench_dataset_score(all)}};
  for (size_t i = 0; i < bins.size(); ++i) {
    if (bins.at(i).empty()) continue;
    scores.emplace_back(fmt::format("{} {}", metric, kLongBenchBins.at(i)),
                        longbench_dataset_score(bins.at(i)));
  }
  return scores;
}

std::vector<RecordTask> record_tasks(bool official) {
  std::vector<RecordTask> tasks;
  for (const LongBenchDataset& dataset : longbench_datasets()) {
    RecordTask task;
    task.info = longbench_task(dataset.name);
    task.published_size = benchmark_prompts()["longbench"]["tasks"]
                              .at(dataset.name)
                              .at("records_in_full_test_set")
                              .get<size_t>();
    task.samples = [&dataset, official](const Json& record) {
      return std::vector<Sample>{make_sample(record, dataset, official)};
    };
    task.score = [&dataset](const Sample& sample, const Answer& answer) {
      return score(dataset, sample, answer);
    };
    tasks.push_back(std::move(task));
  }
  return tasks;
}

std::vector<TaskInfo> tasks() { return task_infos(record_tasks(true)); }

std::vector<std::unique_ptr<Task>> open(const SuiteOptions& options,
                                        std::vector<SkippedLine>& skipped) {
  const bool official = choose_profile(options.profile, kProfiles) == "official";
  return open_record_tasks(record_tasks(official), options, skipped);
}

}  // namespace

TaskInfo longbench_task(std::string_view dataset) {
  const LongBenchDataset& known = longbench_dataset(dataset);
  return {.name = std::string(known.name),
          .category = std::string(known.category),
          .metric = std::string(name_of(known.metric)),
          .file = fmt::format("longbench/{}.jsonl", known.name),
          .source = std::string(kSource),
          .other_files = {fmt::format("LongBench/{}.jsonl", known.name),
                          fmt::format("data/{}.jsonl", known.name)}};
}

Suite longbench_suite() {
  return {.name = "longbench",
          .summary =
              "question answering, summaries, few-shot learning, counting and code over "
              "long texts (LongBench, 16 English datasets)",
          .tasks = tasks,
          .open = open,
          .summarize = summarize,
          .remark = "code_sim: ratio of difflib, as with LongBench's requirements",
          .has_contexts = true};
}

}  // namespace restkv::eval
