#include <fmt/format.h>

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "eval/jsonl.h"
#include "eval/metrics/text.h"
#include "eval/suites/multiple_choice/choice_suites.h"
#include "eval/suites/multiple_choice/multiple_choice.h"

namespace restkv::eval {
namespace {

struct Dataset {
  std::string_view name;
  std::string_view category;
  size_t size = 0;
  std::string_view split = "validation";
  std::vector<std::string_view> labels = {};  ///< Names of 0, 1, ... where files use names.
};

const std::vector<Dataset>& datasets() {
  static const std::vector<Dataset> kDatasets = {
      {.name = "cola", .category = "single_sentence", .size = 1043},
      {.name = "sst2", .category = "single_sentence", .size = 872},
      {.name = "mrpc", .category = "paraphrase", .size = 408},
      {.name = "qqp", .category = "paraphrase", .size = 40430},
      {.name = "mnli",
       .category = "inference",
       .size = 9815,
       .split = "validation_matched",
       .labels = {"entailment", "neutral", "contradiction"}},
      {.name = "qnli",
       .category = "inference",
       .size = 5463,
       .labels = {"entailment", "not_entailment"}},
      {.name = "rte",
       .category = "inference",
       .size = 277,
       .labels = {"entailment", "not_entailment"}},
      {.name = "wnli", .category = "inference", .size = 71}};
  return kDatasets;
}

/// Without white space at the ends and with a full stop.
std::string as_sentence(std::string_view utf8) {
  const std::u32string decoded = text::decode(utf8);
  std::string sentence = text::encode(text::strip(decoded));
  if (!sentence.ends_with('.')) sentence += '.';
  return sentence;
}

std::vector<Question> questions(const Dataset& dataset, size_t choices, const Json& record) {
  Question question;
  question.fields = record;
  if (dataset.name == "mnli") {
    question.fields["hypothesis"] = as_sentence(text_field(record, "hypothesis"));
  }
  question.gold = label_field(record, choices, dataset.labels);
  return {std::move(question)};
}

std::vector<RecordTask> record_tasks() {
  std::vector<RecordTask> tasks;
  for (const Dataset& dataset : datasets()) {
    ChoiceTask task;
    task.harness_task = dataset.name;
    task.info.name = dataset.name;
    task.info.category = dataset.category;
    task.info.file = fmt::format("glue/{}_dev.jsonl", dataset.name);
    task.info.source = fmt::format(
        "https://huggingface.co/datasets/nyu-mll/glue ({}, split {}, saved as JSON lines)",
        dataset.name, dataset.split);
    task.info.other_files = {fmt::format("glue/{}/{}.jsonl", dataset.name, dataset.split)};
    task.published_size = dataset.size;
    const size_t choices =
        benchmark_prompts()["lm_eval"]["tasks"].at(task.harness_task).at("choices").size();
    task.questions = [&dataset, choices](const Json& record) {
      return questions(dataset, choices, record);
    };
    tasks.push_back(choice_task(std::move(task)));
  }
  return tasks;
}

}  // namespace

Suite glue_suite() {
  return choice_suite<record_tasks>(
      "glue", "grammar, sentiment, paraphrase, inference (GLUE, prompted choice)");
}

}  // namespace restkv::eval
