#include "eval/suites/record_task.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "eval/jsonl.h"
#include "eval/suites/find_file.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;

class OpenRecordTask : public Task {
 public:
  OpenRecordTask(RecordTask task, fs::path file) : task_(std::move(task)), file_(std::move(file)) {}

  /// Adds the samples of the record at `place` up to a total of `limit` (0: no limit); returns
  /// false once that is reached.
  bool add(RecordPlace place, std::vector<Sample> samples, size_t limit) {
    for (size_t part = 0; part < samples.size(); ++part) {
      if (limit != 0 && entries_.size() >= limit) return false;
      std::string& id = samples[part].id;
      if (id.empty()) {
        id = fmt::format("line-{}", place.line);
        if (samples.size() > 1) id += fmt::format("-{}", part);
      }
      while (!ids_.insert(id).second) id += fmt::format("#{}", place.line);
      entries_.push_back({place, part, id});
    }
    return limit == 0 || entries_.size() < limit;
  }

  [[nodiscard]] const RecordTask& rules() const { return task_; }
  [[nodiscard]] std::string name() const override { return task_.info.name; }
  [[nodiscard]] std::string category() const override { return task_.info.category; }
  [[nodiscard]] size_t size() const override { return entries_.size(); }
  [[nodiscard]] Sample sample(size_t index) const override {
    const Entry& entry = entries_.at(index);
    std::vector<Sample> samples = task_.samples(read_record(file_, entry.place));
    Sample sample = std::move(samples.at(entry.part));
    sample.id = entry.id;
    return sample;
  }
  [[nodiscard]] Scores score(const Sample& sample, const Answer& answer) const override {
    return task_.score(sample, answer);
  }
  [[nodiscard]] bool lower_is_better() const override { return task_.lower_is_better; }
  [[nodiscard]] size_t published_size() const override { return task_.published_size; }
  [[nodiscard]] std::vector<fs::path> files() const override { return {file_}; }

 private:
  struct Entry {
    RecordPlace place;
    size_t part;  ///< Index among the samples of that record.
    std::string id;
  };
  RecordTask task_;
  fs::path file_;
  std::vector<Entry> entries_;
  std::set<std::string> ids_;
};

/// Refuses records without questions, which would otherwise be dropped silently.
std::vector<Sample> samples_of(const RecordTask& task, const Json& record) {
  std::vector<Sample> samples = task.samples(record);
  if (samples.empty()) throw Error(ErrorCode::kInput, "the record asks no question");
  return samples;
}

[[noreturn]] void refuse_file(const fs::path& file, std::span<const SkippedLine> skipped) {
  throw Error(ErrorCode::kInput,
              skipped.empty() ? fmt::format("{}: holds no record", file.string())
                              : fmt::format("{}: no line can be used; line {}: {}", file.string(),
                                            skipped[0].line, skipped[0].reason));
}

}  // namespace

std::unique_ptr<Task> open_record_task(RecordTask task, const fs::path& file, size_t limit,
                                       std::vector<SkippedLine>& skipped) {
  auto opened = std::make_unique<OpenRecordTask>(std::move(task), file);
  const size_t known = skipped.size();
  read_jsonl(
      file,
      [&](const Json& record, RecordPlace place) {
        return opened->add(place, samples_of(opened->rules(), record), limit);
      },
      skipped);
  if (opened->size() == 0) refuse_file(file, std::span(skipped).subspan(known));
  return opened;
}

std::vector<std::unique_ptr<Task>> open_tasks_of_file(
    const std::function<RecordTask(const Json& record)>& task_of, const fs::path& file,
    size_t limit, std::vector<SkippedLine>& skipped) {
  std::vector<std::unique_ptr<OpenRecordTask>> opened;
  const size_t known = skipped.size();
  read_jsonl(
      file,
      [&](const Json& record, RecordPlace place) {
        RecordTask task = task_of(record);
        std::vector<Sample> samples = samples_of(task, record);
        auto same =
            std::ranges::find(opened, task.info.name, [](const auto& t) { return t->name(); });
        if (same == opened.end()) {
          opened.push_back(std::make_unique<OpenRecordTask>(std::move(task), file));
          same = std::prev(opened.end());
        } else if ((*same)->rules().info.metric != task.info.metric) {
          throw Error(ErrorCode::kInput,
                      fmt::format("the metric is '{}', but the task '{}' began with '{}'",
                                  task.info.metric, task.info.name, (*same)->rules().info.metric));
        }
        (*same)->add(place, std::move(samples), limit);
        return true;
      },
      skipped);
  if (opened.empty()) refuse_file(file, std::span(skipped).subspan(known));
  return {std::make_move_iterator(opened.begin()), std::make_move_iterator(opened.end())};
}

std::vector<std::unique_ptr<Task>> open_record_tasks(std::span<const RecordTask> tasks,
                                                     const SuiteOptions& options,
                                                     std::vector<SkippedLine>& skipped) {
  std::vector<std::unique_ptr<Task>> opened;
  for (const std::string& name : choose_tasks(task_infos(tasks), options.tasks)) {
    const auto task = std::ranges::find(tasks, name, [](const auto& t) { return t.info.name; });
    if (const auto file = find_task_file(task->info, options.data)) {
      opened.push_back(open_record_task(*task, *file, options.limit, skipped));
    } else if (!options.tasks.empty()) {
      throw Error(ErrorCode::kInput,
                  options.data.empty()
                      ? fmt::format("the task '{}' needs a data folder with {}; get it from {}",
                                    name, task->info.file, task->info.source)
                      : fmt::format("there is no {} in {}; get it from {}", task->info.file,
                                    options.data.string(), task->info.source));
    }
  }
  return opened;
}

std::vector<std::string> choose_tasks(std::span<const TaskInfo> known,
                                      std::span<const std::string> wanted) {
  std::vector<std::string> names;
  for (const TaskInfo& info : known) names.push_back(info.name);
  if (wanted.empty()) return names;
  for (const std::string& name : wanted) {
    if (std::ranges::find(names, name) == names.end()) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("there is no task '{}'; known: {}", name, fmt::join(names, ", ")));
    }
  }
  std::vector<std::string> chosen;
  for (const std::string& name : wanted) {
    if (std::ranges::find(chosen, name) == chosen.end()) chosen.push_back(name);
  }
  return chosen;
}

std::vector<TaskInfo> task_infos(std::span<const RecordTask> tasks) {
  std::vector<TaskInfo> infos;
  for (const RecordTask& task : tasks) infos.push_back(task.info);
  return infos;
}

std::string_view choose_profile(std::string_view profile, std::span<const std::string_view> known) {
  if (profile.empty()) return known.front();
  const auto found = std::ranges::find(known, profile);
  if (found == known.end()) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("there is no profile '{}'; known: {}",
                                                         profile, fmt::join(known, ", ")));
  }
  return *found;
}

std::vector<size_t> choose_lengths(const SuiteOptions& options, std::span<const size_t> usual) {
  if (!options.lengths.empty()) return options.lengths;
  std::vector<size_t> lengths;
  for (const size_t length : usual) {
    if (options.context == 0 || length <= options.context) lengths.push_back(length);
  }
  return lengths;
}

}  // namespace restkv::eval
