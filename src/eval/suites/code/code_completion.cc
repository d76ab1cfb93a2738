#include "eval/suites/code/code_completion.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "eval/jsonl.h"
#include "eval/suites/code/code_context.h"
#include "eval/suites/fill_template.h"
#include "eval/suites/find_file.h"
#include "eval/suites/longbench/longbench.h"
#include "eval/suites/longbench/metrics.h"
#include "eval/suites/record_task.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 2> kSets{"lcc", "repobench-p"};
constexpr std::array<size_t, 7> kLengths{0, 4096, 8192, 16384, 32768, 65536, 131072};

struct CodeRecord {
  std::string context;
  std::string input;
  std::vector<std::string> answers;
  std::string origin;  ///< As of its `CodeFile`.
};

struct Common {
  const Tokenizer* tokenizer = nullptr;
  uint64_t seed = 0;
  CodeFiles files;
  std::vector<fs::path> sources;
};

/// Whether a file is the same text under another number, or contains the expected continuation.
bool continues(const CodeFile& file, const CodeRecord& record) {
  constexpr size_t kTail = 200;
  const std::string_view context = record.context;
  const std::string_view tail = context.substr(context.size() - std::min(kTail, context.size()));
  return file.origin == record.origin || file.text.find(tail) != std::string::npos;
}

class CompletionTask : public Task {
 public:
  CompletionTask(std::shared_ptr<const Common> common, std::string_view set,
                 std::vector<CodeRecord> records, std::vector<size_t> lengths)
      : common_(std::move(common)),
        set_(set),
        records_(std::move(records)),
        lengths_(std::move(lengths)) {}

  [[nodiscard]] std::string name() const override { return std::string(set_); }
  [[nodiscard]] std::string category() const override { return "code"; }
  [[nodiscard]] size_t size() const override { return records_.size() * lengths_.size(); }
  [[nodiscard]] std::vector<fs::path> files() const override { return common_->sources; }
  [[nodiscard]] std::vector<std::string> notes() const override {
    return {"a task defined by this project: no published figures exist for it",
            fmt::format("contexts are made of {} files", common_->files.files().size())};
  }

  [[nodiscard]] Sample sample(size_t index) const override {
    const size_t number = index % records_.size();
    const size_t length = lengths_.at(index / records_.size());
    const CodeRecord& record = records_[number];
    const Json& rules = benchmark_prompts().at("longbench").at("tasks").at(set_);

    Sample sample;
    sample.id = fmt::format("{}@{}", record.origin, length);
    sample.always_raw = true;
    sample.max_new_tokens = rules.at("max_new_tokens").get<size_t>();
    sample.length = length;
    sample.reference = {{"answers", record.answers}};
    const auto prompt = [&](const std::string& context) {
      return fill_template(rules.at("prompt").text(),
                           {{"context", context}, {"input", record.input}});
    };
    sample.prompt = prompt(record.context);
    if (length == 0) return sample;

    const std::string own = file_heading("current") + record.context;
    const auto behind = [&](const std::string& context) { return prompt(context + own); };
    Random random(common_->seed, set_, number);
    const CodeFiles::Choice choice = common_->files.choose(
        {.limit = length - std::min(length, sample.max_new_tokens),
         .prompt = behind,
         .leave_out = [&](const CodeFile& file) { return continues(file, record); }},
        *common_->tokenizer, random);
    if (choice.all_used) {
      throw Error(
          ErrorCode::kInput,
          fmt::format("a prompt of {} tokens is asked for, but all other files together have "
                      "{}; use more records of lcc and repobench-p or shorter lengths",
                      length, choice.tokens));
    }
    sample.reference["context_tokens"] = choice.tokens;
    // A record that is long enough is unchanged.
    if (!choice.files.empty()) sample.prompt = behind(context_text(choice.files));
    return sample;
  }

  [[nodiscard]] Scores score(const Sample& sample, const Answer& answer) const override {
    const auto answers = sample.reference.at("answers").get<std::vector<std::string>>();
    return {{"code_sim", longbench_score(longbench_dataset(set_), answer.text, answers, {})}};
  }

 private:
  std::shared_ptr<const Common> common_;
  std::string_view set_;
  std::vector<CodeRecord> records_;
  std::vector<size_t> lengths_;
};

std::vector<TaskInfo> tasks() {
  std::vector<TaskInfo> infos;
  infos.reserve(kSets.size());
  for (const std::string_view set : kSets) infos.push_back(longbench_task(set));
  return infos;
}

std::vector<CodeRecord> read_records(const fs::path& file, std::string_view set,
                                     std::vector<SkippedLine>& skipped) {
  std::vector<CodeRecord> records;
  read_jsonl(
      file,
      [&](const Json& record, RecordPlace) {
        records.push_back({text_field(record, "context"), text_field(record, "input"),
                           filled_texts_field(record, "answers"),
                           fmt::format("{}/{}", set, records.size())});
        return true;
      },
      skipped);
  return records;
}

std::vector<std::unique_ptr<Task>> open(const SuiteOptions& options,
                                        std::vector<SkippedLine>& skipped) {
  const auto common = std::make_shared<Common>();
  common->tokenizer = options.tokenizer;
  common->seed = options.seed;
  std::vector<size_t> lengths = options.lengths;
  if (lengths.empty()) {
    for (const size_t length : kLengths) {
      if (options.context == 0 || length <= options.context) lengths.push_back(length);
    }
  }

  std::vector<std::unique_ptr<Task>> opened;
  const std::vector<std::string> wanted = choose_tasks(tasks(), options.tasks);
  for (const std::string_view set : kSets) {
    const bool named = std::ranges::find(wanted, set) != wanted.end();
    const std::optional<fs::path> file = find_task_file(longbench_task(set), options.data);
    if (!file && named && !options.tasks.empty()) {
      throw Error(ErrorCode::kInput, fmt::format("{} is not in the data folder '{}'; it is to be "
                                                 "had from {}",
                                                 longbench_task(set).file, options.data.string(),
                                                 longbench_task(set).source));
    }
    if (!file) continue;
    // Contexts use both sets, even if only one is selected.
    std::vector<CodeRecord> records = read_records(*file, set, skipped);
    for (const CodeRecord& record : records) {
      common->files.add(longbench_file(record.origin, record.context));
    }
    common->sources.push_back(*file);
    if (!named || records.empty()) continue;
    if (options.limit != 0 && options.limit < records.size()) records.resize(options.limit);
    opened.push_back(std::make_unique<CompletionTask>(common, set, std::move(records), lengths));
  }
  return opened;
}

}  // namespace

Suite code_completion_suite() {
  return {.name = "code",
          .summary =
              "the next line of code behind whole other files (lcc and repobench-p at any "
              "length)",
          .tasks = tasks,
          .open = open,
          .remark = "code_sim: ratio of difflib, as with LongBench's requirements",
          .has_lengths = true,
          .draws_samples = true};
}

}  // namespace restkv::eval
