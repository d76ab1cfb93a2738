#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "eval/suite.h"

/// Tasks whose samples are records of a JSONL file.
namespace restkv::eval {

/// A task defined by its records.
struct RecordTask {
  TaskInfo info;
  TaskInfo examples = {};  ///< Solved questions for few-shot prompts; without a file: its own.
  size_t published_size = 0;
  bool lower_is_better = false;
  /// The samples of one record, usually one; their `id` may be empty or not unique. Throws `Error`
  /// (kInput) if the record cannot be used.
  std::function<std::vector<Sample>(const Json& record)> samples;
  std::function<Scores(const Sample& sample, const Answer& answer)> score;
};

/// Checks every record of the file, up to `limit` samples (0: no limit), and keeps their places
/// only: samples are read again on demand, so that a file of gigabytes takes no memory. Throws
/// `Error` (kInput) with the reason if no record can be used.
std::unique_ptr<Task> open_record_task(RecordTask task, const std::filesystem::path& file,
                                       size_t limit, std::vector<SkippedLine>& skipped);

/// The same for a file with the records of several tasks. `task_of` gives the task of a record
/// (tasks of one name and metric are one) and refuses records with `Error` (kInput). The tasks are
/// in the order of their first records.
std::vector<std::unique_ptr<Task>> open_tasks_of_file(
    const std::function<RecordTask(const Json& record)>& task_of, const std::filesystem::path& file,
    size_t limit, std::vector<SkippedLine>& skipped);

/// Opens the tasks of `options.tasks`, in that order, or all tasks with a file if it is empty.
/// Throws as `Suite::open`. The result is empty if there is no file.
std::vector<std::unique_ptr<Task>> open_record_tasks(std::span<const RecordTask> tasks,
                                                     const SuiteOptions& options,
                                                     std::vector<SkippedLine>& skipped);

/// The tasks of `known` named by `wanted`, in its order, or all if it is empty. Throws `Error`
/// (kInvalidArgument) for an unknown name.
std::vector<std::string> choose_tasks(std::span<const TaskInfo> known,
                                      std::span<const std::string> wanted);

std::vector<TaskInfo> task_infos(std::span<const RecordTask> tasks);

/// `profile` if it is one of `known`, the first of them if it is empty. Throws `Error`
/// (kInvalidArgument).
std::string_view choose_profile(std::string_view profile, std::span<const std::string_view> known);

/// The given prompt lengths, or the `usual` ones that fit the model.
std::vector<size_t> choose_lengths(const SuiteOptions& options, std::span<const size_t> usual);

}  // namespace restkv::eval
