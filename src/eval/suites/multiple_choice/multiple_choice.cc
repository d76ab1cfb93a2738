#include "eval/suites/multiple_choice/multiple_choice.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "eval/jsonl.h"
#include "eval/metrics/agreement.h"
#include "eval/suites/find_file.h"
#include "eval/suites/multiple_choice/few_shot.h"
#include "eval/suites/multiple_choice/metrics.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

constexpr std::string_view kDevSuffix = "_dev";

const Json& harness() { return benchmark_prompts().at("lm_eval"); }

}  // namespace

std::string fill_fields(std::string_view text, const Json& fields) {
  std::string filled;
  for (size_t open; (open = text.find("{{")) != std::string_view::npos;) {
    const size_t close = std::min(text.find("}}", open), text.size() - 2);
    filled += text.substr(0, open);
    filled += text_field(fields, text.substr(open + 2, close - open - 2));
    text.remove_prefix(close + 2);
  }
  return filled.append(text);
}

size_t label_field(const Json& record, size_t count, std::span<const std::string_view> names) {
  const Json& label = field(record, "label");
  if (label.is_boolean() && count == 2) return label.get<bool>() ? 1 : 0;
  if (label.is_string()) {
    const auto name = std::ranges::find(names, label.text());
    if (name != names.end()) return static_cast<size_t>(name - names.begin());
  }
  if (label.is_number_integer()) {
    const auto value = label.get<int64_t>();
    if (value >= 0 && value < static_cast<int64_t>(count)) return static_cast<size_t>(value);
  }
  throw Error(ErrorCode::kInput, fmt::format("field 'label' must be 0 to {}{}{}, not {}", count - 1,
                                             names.empty() ? "" : " or one of ",
                                             fmt::join(names, ", "), label.dump()));
}

Sample choice_sample(std::string context, std::span<const std::string> choices, size_t gold) {
  const auto& delimiter = harness().at("target_delimiter").text();
  Sample sample;
  sample.mode = SampleMode::kChoose;
  sample.prompt = std::move(context);
  sample.always_raw = true;
  for (const std::string& choice : choices) sample.choices.push_back(delimiter + choice);
  sample.reference = {{"choices", std::vector<std::string>(choices.begin(), choices.end())},
                      {"gold", gold}};
  return sample;
}

RecordTask choice_task(ChoiceTask task) {
  const Json& rules = harness().at("tasks").at(task.harness_task);
  RecordTask made;
  made.info = std::move(task.info);
  made.examples = std::move(task.examples);
  made.info.metric = rules.at("metrics").at(0).text();
  made.published_size = task.published_size;
  made.samples = [&rules, questions = std::move(task.questions)](const Json& record) {
    std::vector<Sample> samples;
    for (const Question& question : questions(record)) {
      std::vector<std::string> choices;
      for (const Json& choice : rules.at("choices")) {
        choices.push_back(fill_fields(choice.text(), question.fields));
      }
      samples.push_back(
          choice_sample(fill_fields(rules.at("context_template").text(), question.fields), choices,
                        question.gold));
      samples.back().id = question.id;
    }
    return samples;
  };
  made.score = [](const Sample& sample, const Answer& answer) {
    const auto choices = sample.reference.at("choices").get<std::vector<std::string>>();
    const auto gold = sample.reference.at("gold").get<size_t>();
    const MultipleChoiceScore judged =
        multiple_choice_score(choices, answer.log_likelihoods, answer.greedy, gold);
    return Scores{{"acc", judged.acc},
                  {"acc_norm", judged.acc_norm},
                  {"gold", static_cast<double>(gold)},
                  {"predicted", static_cast<double>(most_likely(answer.log_likelihoods))}};
  };
  return made;
}

std::vector<std::unique_ptr<Task>> open_choice_tasks(std::span<const RecordTask> tasks,
                                                     const SuiteOptions& options,
                                                     std::vector<SkippedLine>& skipped) {
  std::vector<std::unique_ptr<Task>> opened = open_record_tasks(tasks, options, skipped);
  if (options.shots == 0) return opened;
  const FewShot few_shot{.shots = options.shots,
                         .seed = options.seed,
                         .delimiter = harness().at("fewshot_delimiter").text()};
  for (std::unique_ptr<Task>& task : opened) {
    const RecordTask& rules = *std::ranges::find(
        tasks, task->name(), [](const RecordTask& each) { return each.info.name; });
    std::vector<SkippedLine> known;  // those of its own file are in `skipped` already
    if (rules.examples.file.empty()) {
      auto all = open_record_task(rules, task->files().at(0), 0, known);
      task = with_examples(std::move(task), std::move(all), few_shot);
      continue;
    }
    const auto file = find_task_file(rules.examples, options.data);
    if (!file) {
      throw Error(ErrorCode::kInput,
                  fmt::format("examples for {} are missing: there is no {} in {}; get it from {}",
                              rules.info.name, rules.examples.file, options.data.string(),
                              rules.examples.source));
    }
    task = with_examples(std::move(task), open_record_task(rules, *file, 0, skipped), few_shot);
  }
  return opened;
}

size_t most_likely(std::span<const double> log_likelihoods) {
  return static_cast<size_t>(std::ranges::max_element(log_likelihoods) - log_likelihoods.begin());
}

Scores summarize_choices(std::string_view task, std::span<const Scores> samples) {
  if (task.ends_with(kDevSuffix)) task.remove_suffix(kDevSuffix.size());
  std::vector<int> gold;
  std::vector<int> predicted;
  for (const Scores& sample : samples) {
    gold.push_back(static_cast<int>(sample.at(2).second));
    predicted.push_back(static_cast<int>(sample.at(3).second));
  }
  const Scores means = mean_scores(samples);
  const auto value = [&](std::string_view metric) {
    if (metric == "mcc") return 100 * matthews_correlation(gold, predicted);
    if (metric == "acc") return means.at(0).second;
    return 100 * (task == "cb" ? cb_f1(gold, predicted) : f1_of_class(gold, predicted));  // f1
  };
  Scores scores;
  for (const Json& metric : harness().at("tasks").at(task).at("metrics")) {
    scores.emplace_back(metric.text(), value(metric.text()));
  }
  return scores;
}

}  // namespace restkv::eval
