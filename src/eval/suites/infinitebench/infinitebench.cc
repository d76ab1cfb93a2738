#include "eval/suites/infinitebench/infinitebench.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "eval/jsonl.h"
#include "eval/metrics/text.h"
#include "eval/suites/fill_template.h"
#include "eval/suites/find_file.h"
#include "eval/suites/infinitebench/generators.h"
#include "eval/suites/infinitebench/metrics.h"
#include "eval/suites/record_task.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

/// The profiles differ in the number of new tokens and in the rules of three scores. Their prompts
/// are the same, without a chat template.
constexpr std::array<std::string_view, 2> kProfiles = {"official", "restkv"};

constexpr std::string_view kSource =
    "https://huggingface.co/datasets/xinrongzhang2022/InfiniteBench (<task>.jsonl)";

constexpr std::string_view kLetters = "ABCD";

std::string_view category_of(std::string_view task) {
  if (task.starts_with("longbook")) return "books";
  if (task.starts_with("longdialogue")) return "dialogue";
  if (task.starts_with("math")) return "math";
  if (task.starts_with("code")) return "code";
  return "retrieval";
}

const Json& rules_of(std::string_view task) {
  return benchmark_prompts().at("infinitebench").at("tasks").at(task);
}

// --- Prompts -------------------------------------------------------------------------------------

std::string first_match(const std::string& text, const char* pattern) {
  std::smatch match;
  if (!std::regex_search(text, match, std::regex(pattern))) {
    throw Error(ErrorCode::kInput, fmt::format("field 'input' has no '{}'", pattern));
  }
  return match.str();
}

/// "The largest number of the list is" becomes "What is the largest number in the following list?".
std::string math_find_prefix(const std::string& input) {
  std::string asked = first_match(input, "The .+ of");
  asked.resize(asked.size() - 3);
  return fmt::format("What is {} in the following list?",
                     text::encode(text::lower(text::decode(asked))));
}

bool has_options(std::string_view task) {
  return task == "code_debug" || task == "longbook_choice_eng";
}

/// The four answers to choose from; texts that are not used for the other tasks.
std::vector<std::string> options_of(std::string_view task, const Json& record) {
  if (!has_options(task)) return std::vector<std::string>(kLetters.size());
  std::vector<std::string> options = texts_field(record, "options");
  if (options.size() != kLetters.size()) {
    throw Error(ErrorCode::kInput, fmt::format("field 'options' must have {} texts, not {}",
                                               kLetters.size(), options.size()));
  }
  return options;
}

FilledPrompt prompt_of(std::string_view task, const Json& record) {
  const std::string& input = text_field(record, "input");
  const std::string prefix = task == "math_find" ? math_find_prefix(input) : "";
  const std::string call =
      task == "code_run" ? first_match(input, R"(func_[0-9]+\(\-?[0-9]+\))") : "";
  const std::vector<std::string> options = options_of(task, record);
  return fill_prompt(rules_of(task).at("prompt").text(),
                     {{"context", text_field(record, "context")},
                      {"input", input},
                      {"question", input},
                      {"prefix", prefix},
                      {"func_call", call},
                      {"func", std::string_view(call).substr(0, call.find('('))},
                      {"OPTION_A", options[0]},
                      {"OPTION_B", options[1]},
                      {"OPTION_C", options[2]},
                      {"OPTION_D", options[3]}});
}

/// The reference of the answer: its text and its letter in tasks with options.
Json label_of(std::string_view task, const Json& record) {
  const Json& answer = field(record, "answer");
  if (!answer.is_string() && !answer.is_number() && !answer.is_array()) {
    throw Error(ErrorCode::kInput, "field 'answer' must be a text, a number or a list of them");
  }
  if (!has_options(task)) return answer;
  if (answer.is_array() && answer.size() == 2) return answer;  // has its letter
  const Json& text = answer.is_array() && answer.size() == 1 ? answer[0] : answer;
  const std::vector<std::string> options = options_of(task, record);
  const auto option = text.is_string() ? std::ranges::find(options, text.text()) : options.end();
  if (option == options.end()) {
    throw Error(ErrorCode::kInput, "field 'answer' is none of the options");
  }
  const char letter = kLetters.at(static_cast<size_t>(option - options.begin()));
  return Json::array({text, std::string(1, letter)});
}

// --- Samples -------------------------------------------------------------------------------------

struct Rules {
  std::string_view task;
  InfiniteBenchScorer scorer = InfiniteBenchScorer::kOriginal;
  size_t max_new_tokens = 0;
  size_t min_new_tokens = 0;
};

Rules make_rules(std::string_view task, const SuiteOptions& options) {
  const bool official = choose_profile(options.profile, kProfiles) == "official";
  Rules rules{
      .task = task,
      .scorer = official ? InfiniteBenchScorer::kOriginal : InfiniteBenchScorer::kRestKv,
      .max_new_tokens =
          rules_of(task).at(official ? "original_max_new_tokens" : "max_new_tokens").get<size_t>(),
      .min_new_tokens = official ? 0U : 1U};
  // math_calc generates 30000 tokens, which would leave a small model no room for the prompt.
  if (options.context != 0) {
    rules.max_new_tokens = std::min(rules.max_new_tokens, std::max<size_t>(options.context / 2, 1));
  }
  return rules;
}

Sample make_sample(const Rules& rules, const Json& record) {
  Sample sample;
  if (const Json* id = record.find("id")) {
    sample.id = id->is_string() ? id->get<std::string>() : id->dump();
  }
  FilledPrompt prompt = prompt_of(rules.task, record);
  sample.prompt = std::move(prompt.text);
  sample.context_end = prompt.context_end;
  sample.always_raw = true;
  sample.max_new_tokens = rules.max_new_tokens;
  sample.min_new_tokens = rules.min_new_tokens;
  sample.reference = {{"label", label_of(rules.task, record)}};
  // Checks the label with an arbitrary prediction.
  (void)infinitebench_score(rules.task, "1", sample.reference["label"], rules.scorer);
  return sample;
}

Scores score(const Rules& rules, const Sample& sample, const Answer& answer) {
  return {{"score",
           infinitebench_score(rules.task, answer.text, sample.reference.at("label"), rules.scorer)
               .value_or(0)}};
}

RecordTask record_task(const Rules& rules) {
  RecordTask task;
  task.info = {.name = std::string(rules.task),
               .category = std::string(category_of(rules.task)),
               .metric = "score",
               .file = fmt::format("infinitebench/{}.jsonl", rules.task),
               .source = std::string(kSource),
               .other_files = {fmt::format("InfiniteBench/{}.jsonl", rules.task)},
               .generated_if_missing = find_infinitebench_generator(rules.task) != nullptr};
  task.published_size =
      benchmark_prompts()["infinitebench"]["example_counts"].at(rules.task).get<size_t>();
  task.samples = [rules](const Json& record) {
    return std::vector<Sample>{make_sample(rules, record)};
  };
  task.score = [rules](const Sample& sample, const Answer& answer) {
    return score(rules, sample, answer);
  };
  return task;
}

// --- Generated tasks -----------------------------------------------------------------------------

class GeneratedTask : public Task {
 public:
  /// Prompt and answer together have at most `length` tokens or, without it, fill the model's
  /// context. They are not longer than published.
  GeneratedTask(const InfiniteBenchGenerator& generator, const Rules& rules,
                const SuiteOptions& options, std::optional<size_t> length)
      : generator_(generator),
        rules_(rules),
        tokenizer_(options.tokenizer),
        seed_(options.seed),
        length_(length),
        most_(length.value_or(options.context)),
        records_(options.limit == 0 ? generator.records
                                    : std::min(options.limit, generator.records)),
        size_(generator.size) {
    if (most_ == 0) return;
    if (tokenizer_ == nullptr) {
      throw Error(ErrorCode::kInvalidArgument,
                  "fitting prompts to a length needs the model's tokenizer");
    }
    const auto tokens = [&](const Json& record) { return tokens_of(sample_of(record)); };
    size_ = std::min(size_, fit_infinitebench(generator_, most_, seed_, tokens));
  }

  [[nodiscard]] std::string name() const override {
    return length_ ? fmt::format("{}@{}", rules_.task, *length_) : std::string(rules_.task);
  }
  [[nodiscard]] std::string category() const override {
    return std::string(category_of(rules_.task));
  }
  [[nodiscard]] size_t size() const override { return records_; }
  [[nodiscard]] std::vector<std::string> notes() const override {
    return {fmt::format("generated: {} {} (published: {}), with random choices of this program",
                        size_, generator_.unit, generator_.size)};
  }
  /// The size fits the first record; others may have more tokens and are then made smaller.
  [[nodiscard]] Sample sample(size_t index) const override {
    for (size_t size = size_;;) {
      Sample sample = sample_of(
          generator_.make({.index = index, .records = records_, .size = size, .seed = seed_}));
      const size_t tokens = most_ == 0 ? 0 : tokens_of(sample);
      if (tokens <= most_ || size == generator_.smallest) return sample;
      const size_t less = std::max<size_t>(size * (tokens - most_) / tokens, 1);
      size = std::max(size - std::min(less, size), generator_.smallest);
    }
  }
  [[nodiscard]] Scores score(const Sample& sample, const Answer& answer) const override {
    return eval::score(rules_, sample, answer);
  }

 private:
  [[nodiscard]] Sample sample_of(const Json& record) const {
    Sample sample = make_sample(rules_, record);
    sample.length = length_;
    if (rules_.task == "math_calc" && tokenizer_ != nullptr) {
      // Up to 30000 tokens are allowed; the limit is the length of the right answer with any
      // spaces.
      const std::string answer = sample.reference.at("label").dump();
      sample.max_new_tokens =
          std::min(rules_.max_new_tokens, 2 * tokenizer_->encode(answer, false, false).size());
    }
    return sample;
  }

  [[nodiscard]] size_t tokens_of(const Sample& sample) const {
    return tokenizer_->encode(sample.prompt, true, false).size() + sample.max_new_tokens;
  }

  const InfiniteBenchGenerator& generator_;
  Rules rules_;
  const Tokenizer* tokenizer_;
  uint64_t seed_;
  std::optional<size_t> length_;  ///< The given length.
  size_t most_;                   ///< Tokens of prompt and answer; 0: any number.
  size_t records_;
  size_t size_;
};

// -------------------------------------------------------------------------------------------------

std::vector<RecordTask> record_tasks(const SuiteOptions& options) {
  std::vector<RecordTask> tasks;
  for (const std::string_view task : infinitebench_tasks()) {
    tasks.push_back(record_task(make_rules(task, options)));
  }
  return tasks;
}

std::vector<TaskInfo> tasks() { return task_infos(record_tasks({})); }

std::vector<std::unique_ptr<Task>> open(const SuiteOptions& options,
                                        std::vector<SkippedLine>& skipped) {
  const std::vector<RecordTask> known = record_tasks(options);
  std::vector<std::unique_ptr<Task>> opened;
  for (const std::string& name : choose_tasks(task_infos(known), options.tasks)) {
    const auto task = std::ranges::find(known, name, [](const auto& t) { return t.info.name; });
    const InfiniteBenchGenerator* generator = find_infinitebench_generator(name);
    const bool generate = generator != nullptr &&
                          (!options.lengths.empty() || !find_task_file(task->info, options.data));
    if (!generate) {
      SuiteOptions one = options;
      if (!options.tasks.empty()) one.tasks = {name};  // its file must be there
      auto from_file = open_record_tasks({task, 1}, one, skipped);
      std::ranges::move(from_file, std::back_inserter(opened));
      continue;
    }
    std::vector<std::optional<size_t>> lengths(options.lengths.begin(), options.lengths.end());
    if (lengths.empty()) lengths.emplace_back();
    for (const std::optional<size_t> length : lengths) {
      opened.push_back(std::make_unique<GeneratedTask>(
          *generator, make_rules(generator->task, options), options, length));
    }
  }
  return opened;
}

}  // namespace

Suite infinitebench_suite() {
  return {.name = "infinitebench",
          .summary =
              "retrieval, books, dialogue, code and numbers in 100,000 tokens and more "
              "(InfiniteBench)",
          .tasks = tasks,
          .open = open,
          .remark =
              "prompts of the yarn-mistral set; \"official\" and \"restkv\" differ in the "
              "number of new tokens and in the scores of kv_retrieval, code_debug and "
              "math_find",
          .has_contexts = true,
          .has_lengths = true,
          .draws_samples = true};
}

}  // namespace restkv::eval
