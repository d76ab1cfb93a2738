#include <fmt/format.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "eval/jsonl.h"
#include "eval/suites/multiple_choice/choice_suites.h"
#include "eval/suites/multiple_choice/multiple_choice.h"

namespace restkv::eval {
namespace {

constexpr std::string_view kSource =
    "https://dl.fbaipublicfiles.com/anli/anli_v1.0.zip (anli_v1.0/R<round>/<split>.jsonl)";
/// Letters of the labels 0 to 2 in the published files.
constexpr std::array<std::string_view, 3> kLabels = {"e", "n", "c"};
constexpr std::array<size_t, 3> kSizes = {1000, 1000, 1200};  // of test and dev alike

std::vector<Question> questions(const Json& record) {
  Question question;
  if (const Json* id = record.find("uid"); id != nullptr && id->is_string()) {
    question.id = id->text();
  }
  // The published files name the premise "context".
  const std::string premise = record.contains("premise") ? "premise" : "context";
  question.fields = {{"premise", text_field(record, premise)},
                     {"hypothesis", text_field(record, "hypothesis")}};
  question.gold = label_field(record, kLabels.size(), kLabels);
  return {question};
}

/// The harness's tasks use the test split. Tasks on the development split have other names, because
/// their figures differ.
std::vector<RecordTask> record_tasks() {
  std::vector<RecordTask> tasks;
  for (const std::string split : {"test", "dev"}) {
    for (size_t round = 1; round <= kSizes.size(); ++round) {
      ChoiceTask task;
      task.harness_task = fmt::format("anli_r{}", round);
      task.info.name = task.harness_task + (split == "dev" ? "_dev" : "");
      task.info.category = split;
      task.info.file = fmt::format("anli/{}_r{}.jsonl", split, round);
      task.info.source = kSource;
      task.info.other_files = {fmt::format("anli_v1.0/R{}/{}.jsonl", round, split),
                               fmt::format("anli/R{}/{}.jsonl", round, split)};
      task.published_size = kSizes.at(round - 1);
      task.questions = questions;
      tasks.push_back(choice_task(std::move(task)));
    }
  }
  return tasks;
}

}  // namespace

Suite anli_suite() {
  return choice_suite<record_tasks>(
      "anli", "does the premise entail the hypothesis? (Adversarial NLI, prompted choice)");
}

}  // namespace restkv::eval
