#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "eval/suite.h"
#include "eval/suites/record_task.h"

/// Prompted multiple choice, scored by the log-likelihood of each choice after the context, with
/// the prompts of EleutherAI's lm-evaluation-harness 0.4.13 (prompts.json, `lm_eval`).
namespace restkv::eval {

/// Replaces each `{{name}}` in `text` by the text field of that name, in one pass. Throws `Error`
/// (kInput) if a field is missing.
std::string fill_fields(std::string_view text, const Json& fields);

/// Fields of the templates of one question, and the right choice.
struct Question {
  std::string id;
  Json fields;
  size_t gold = 0;
};

/// One of the harness's tasks on one file.
struct ChoiceTask {
  TaskInfo info;           ///< Its metric is filled in by `choice_task`.
  TaskInfo examples = {};  ///< As in `RecordTask`.
  size_t published_size = 0;
  std::string harness_task;  ///< The name in prompts.json, "anli_r1".
  /// The questions of one record. Throws `Error` (kInput) if it cannot be used.
  std::function<std::vector<Question>(const Json& record)> questions;
};

RecordTask choice_task(ChoiceTask task);

/// `open_record_tasks` with `options.shots` examples before every question, from the task's file of
/// examples or from its own file. Throws `Error` also if the file of examples is missing (kInput)
/// or there are too few examples (kInvalidArgument).
std::vector<std::unique_ptr<Task>> open_choice_tasks(std::span<const RecordTask> tasks,
                                                     const SuiteOptions& options,
                                                     std::vector<SkippedLine>& skipped);

/// The record's `label`: a number, false or true for 0 and 1, or the index of one of `names`.
/// Throws `Error` (kInput) for anything else and for labels from `count` on.
size_t label_field(const Json& record, size_t count, std::span<const std::string_view> names = {});

/// The sample that asks `context`, with the harness's space before each choice.
Sample choice_sample(std::string context, std::span<const std::string> choices, size_t gold);

/// The choice with the largest log-likelihood, the first of equal ones.
size_t most_likely(std::span<const double> log_likelihoods);

/// The figures of the harness's task of that name (up to a suffix "_dev"): accuracy and others,
/// 0 to 100.
Scores summarize_choices(std::string_view task, std::span<const Scores> samples);

}  // namespace restkv::eval
