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

/// Prompted multiple choice, judged by the log-likelihood of each choice after the context, as the
/// task files of EleutherAI's lm-evaluation-harness 0.4.13 ask it (prompts.json, `lm_eval`).
namespace restkv::eval {

/// `text` with each `{{name}}` replaced by the text field of that name, in one pass. Throws `Error`
/// (kInput) if there is none.
std::string fill_fields(std::string_view text, const Json& fields);

/// What one question's templates are filled with, and the right choice.
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

/// `open_record_tasks`, with `options.shots` examples before every question: those of the task's
/// file of examples, or others of its own file. Throws `Error` (kInput) also if the former is
/// missing, and kInvalidArgument if there are not enough.
std::vector<std::unique_ptr<Task>> open_choice_tasks(std::span<const RecordTask> tasks,
                                                     const SuiteOptions& options,
                                                     std::vector<SkippedLine>& skipped);

/// The record's `label`: a number, false or true for 0 and 1, or one of `names`, which stand for
/// their positions. Throws `Error` (kInput) for anything else and beyond `count` labels.
size_t label_field(const Json& record, size_t count, std::span<const std::string_view> names = {});

/// The sample that asks `context`, with the harness's space before each choice.
Sample choice_sample(std::string context, std::span<const std::string> choices, size_t gold);

/// The choice with the largest log-likelihood, the first of equal ones.
size_t most_likely(std::span<const double> log_likelihoods);

/// The figures of the harness's task of that name (up to a suffix "_dev"): accuracy and others,
/// 0 to 100.
Scores summarize_choices(std::string_view task, std::span<const Scores> samples);

}  // namespace restkv::eval
