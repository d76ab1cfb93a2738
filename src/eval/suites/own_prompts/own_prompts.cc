#include "eval/suites/own_prompts/own_prompts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "eval/jsonl.h"
#include "eval/suites/longbench/metrics.h"
#include "eval/suites/perplexity/perplexity.h"
#include "eval/suites/record_task.h"
#include "eval/suites/ruler/metrics.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

constexpr size_t kDefaultNewTokens = 64;
constexpr size_t kMostNewTokens = size_t{1} << 20U;
constexpr std::string_view kMatchAll = "string_match_all";
constexpr std::string_view kMatchPart = "string_match_part";
constexpr std::array<std::string_view, 1> kProfiles = {"official"};

constexpr std::array kLongBenchMetrics = {
    LongBenchMetric::kQaF1,  LongBenchMetric::kRougeL,    LongBenchMetric::kClassification,
    LongBenchMetric::kCount, LongBenchMetric::kRetrieval, LongBenchMetric::kCodeSim};

bool has(const Json& record, std::string_view name) {
  const Json* found = record.find(name);
  return found != nullptr && !found->is_null();
}

bool is_string_match(std::string_view metric) {
  return metric == kMatchAll || metric == kMatchPart;
}

LongBenchMetric longbench_metric(std::string_view metric) {
  const auto same = std::ranges::find(kLongBenchMetrics, metric, name_of);
  if (same != kLongBenchMetrics.end()) return *same;
  std::vector<std::string_view> known{kMatchAll, kMatchPart};
  for (const LongBenchMetric each : kLongBenchMetrics) known.push_back(name_of(each));
  throw Error(ErrorCode::kInput,
              fmt::format("there is no metric '{}'; known: {}", metric, fmt::join(known, ", ")));
}

/// Throws `Error` (kInput) if the metric could not judge any text by this reference.
void require_judgeable(std::string_view metric, const Json& reference) {
  if (const Json* turns = reference.find("turns"); turns != nullptr) {
    for (Json turn : *turns) {
      if (has(reference, "all_classes")) turn["all_classes"] = reference["all_classes"];
      require_judgeable(metric, turn);
    }
    return;
  }
  const std::vector<std::string> answers = filled_texts_field(reference, "answers");
  if (is_string_match(metric)) return;
  require_judgeable(longbench_metric(metric), answers,
                    filled_texts_if_any(reference, "all_classes"));
}

double judge(std::string_view metric, const Json& reference, std::string_view text) {
  const std::vector<std::string> answers = texts_field(reference, "answers");
  if (metric == kMatchAll) return string_match_all(text, answers);
  if (metric == kMatchPart) return string_match_part(text, answers);
  const LongBenchDataset rules{.name = "prompts",
                               .category = "",
                               .metric = longbench_metric(metric),
                               .first_line_only = false};
  return longbench_score(rules, text, answers, filled_texts_if_any(reference, "all_classes"));
}

/// Of a conversation: the mean over its turns.
double judge(std::string_view metric, const Sample& sample, const Answer& answer) {
  const Json& reference = sample.reference;
  if (sample.turns.empty()) return judge(metric, reference, answer.text);
  double sum = 0;
  for (size_t i = 0; i < sample.turns.size(); ++i) {
    Json turn = reference["turns"].at(i);
    if (has(reference, "all_classes")) turn["all_classes"] = reference["all_classes"];
    sum += judge(metric, turn, answer.turn_texts.at(i));
  }
  return sum / static_cast<double>(sample.turns.size());
}

std::vector<int32_t> tokens_field(const Json& record, std::string_view name,
                                  const Tokenizer* tokenizer) {
  const Json& list = list_field(record, name);
  std::vector<int32_t> tokens;
  tokens.reserve(list.size());
  const int64_t end =
      tokenizer == nullptr ? int64_t{1} << 31U : static_cast<int64_t>(tokenizer->vocabulary());
  for (const Json& item : list) {
    const int64_t token = item.is_number_integer() ? item.get<int64_t>() : -1;
    if (token < 0 || token >= end) {
      throw Error(ErrorCode::kInput,
                  fmt::format("field '{}' holds {}, which is no token of this model (0 to {})",
                              name, shown(item), end - 1));
    }
    tokens.push_back(static_cast<int32_t>(token));
  }
  if (tokens.empty()) throw Error(ErrorCode::kInput, fmt::format("field '{}' is empty", name));
  return tokens;
}

/// Bytes before each character of a text in UTF-8.
std::vector<size_t> character_starts(std::string_view text) {
  std::vector<size_t> starts;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0U) != 0x80U) starts.push_back(i);
  }
  return starts;
}

Json answers_of(const Json& record) {
  const Json& answers = field(record, "answers");
  return answers.is_string() ? Json::array({answers}) : answers;
}

/// Where the question begins: in characters of 'text', which become bytes, or in 'token_ids'.
size_t context_end(const Json& record, const Sample& sample) {
  const size_t end = count_field(record, "context_end");
  const bool is_text = sample.tokens.empty();
  const size_t all = is_text ? character_starts(sample.prompt).size() : sample.tokens.size();
  if (end == 0 || end >= all) {
    throw Error(ErrorCode::kInput,
                fmt::format("field 'context_end' is {}, but must leave both a context and a "
                            "question: 1 to {} of {} {}",
                            end, all - 1, all, is_text ? "characters" : "tokens"));
  }
  return is_text ? character_starts(sample.prompt)[end] : end;
}

size_t context_begin(const Json& record, const Sample& sample) {
  const size_t begin = count_field(record, "context_begin");
  if (sample.tokens.empty()) {
    throw Error(ErrorCode::kInput,
                "field 'context_begin' belongs to 'token_ids'; a text has no template in front");
  }
  const size_t end = sample.context_end > 0 ? sample.context_end : sample.tokens.size();
  if (begin >= end) {
    throw Error(ErrorCode::kInput, fmt::format("field 'context_begin' is {}, but the context ends "
                                               "at token {}",
                                               begin, end));
  }
  return begin;
}

/// A conversation about the text: it is read and compressed before the first question.
void add_turns(const Json& record, Sample& sample) {
  for (const char* name : {"answers", "token_ids", "context_end", "context_begin"}) {
    if (!has(record, name)) continue;
    throw Error(ErrorCode::kInput,
                fmt::format("field '{}' has no effect beside 'turns'; keep one of them", name));
  }
  sample.reference["turns"] = Json::array();
  for (const Json& each : list_field(record, "turns")) {
    sample.turns.push_back({.prompt = text_field(each, "question")});
    if (sample.turns.back().prompt.empty()) throw Error(ErrorCode::kInput, "a question is empty");
    sample.reference["turns"].push_back({{"answers", answers_of(each)}});
  }
  if (sample.turns.empty()) throw Error(ErrorCode::kInput, "field 'turns' is empty");
}

Sample make_sample(const Json& record, const Tokenizer* tokenizer) {
  Sample sample;
  if (has(record, "id")) {
    const Json& id = field(record, "id");
    sample.id = id.is_string() ? id.get<std::string>() : id.dump();
  }
  if (has(record, "text") == has(record, "token_ids")) {
    throw Error(ErrorCode::kInput, has(record, "text")
                                       ? "has both 'text' and 'token_ids'; keep one of them"
                                       : "needs one of the fields 'text' and 'token_ids'");
  }
  if (has(record, "text")) {
    sample.prompt = text_field(record, "text");
    if (sample.prompt.empty()) throw Error(ErrorCode::kInput, "field 'text' is empty");
    sample.keep_control_tokens = true;
  } else {
    sample.tokens = tokens_field(record, "token_ids", tokenizer);
  }
  if (has(record, "context_end")) sample.context_end = context_end(record, sample);
  if (has(record, "context_begin")) sample.context_begin = context_begin(record, sample);
  if (has(record, "length")) sample.length = count_field(record, "length");
  if (has(record, "depth")) {
    const Json& depth = field(record, "depth");
    const double value = depth.is_number() ? depth.get<double>() : -1;
    if (value < 0 || value > 1) {
      throw Error(ErrorCode::kInput,
                  fmt::format("field 'depth' must be 0 to 1, not {}", shown(depth)));
    }
    sample.depth = value;
  }
  if (has(record, "continuation_ids")) {
    for (const char* name :
         {"answers", "turns", "metric", "all_classes", "max_new_tokens", "stop"}) {
      if (!has(record, name)) continue;
      throw Error(
          ErrorCode::kInput,
          fmt::format("field '{}' has no effect beside 'continuation_ids'; keep one of them",
                      name));
    }
    sample.mode = SampleMode::kContinue;
    sample.continuation = tokens_field(record, "continuation_ids", tokenizer);
    return sample;
  }
  sample.min_new_tokens = 0;
  sample.max_new_tokens =
      has(record, "max_new_tokens") ? count_field(record, "max_new_tokens") : kDefaultNewTokens;
  if (sample.max_new_tokens == 0 || sample.max_new_tokens > kMostNewTokens) {
    throw Error(ErrorCode::kInput, fmt::format("field 'max_new_tokens' must be 1 to {}, not {}",
                                               kMostNewTokens, sample.max_new_tokens));
  }
  if (has(record, "stop")) {
    sample.stops = texts_field(record, "stop");
    // A stop may be white space, for instance a line end.
    if (std::ranges::any_of(sample.stops, &std::string::empty)) {
      throw Error(ErrorCode::kInput, "field 'stop' holds an empty text, which ends every answer");
    }
  }
  if (has(record, "turns")) {
    add_turns(record, sample);
  } else {
    sample.reference["answers"] = answers_of(record);
  }
  if (has(record, "all_classes")) sample.reference["all_classes"] = record["all_classes"];
  return sample;
}

std::string metric_of(const Json& record) {
  if (has(record, "continuation_ids")) return "perplexity";
  return has(record, "metric") ? text_field(record, "metric") : std::string(kMatchAll);
}

RecordTask task_of(const Json& record, const Tokenizer* tokenizer) {
  RecordTask task;
  task.info.category = "own";
  task.info.metric = metric_of(record);
  const bool continues = task.info.metric == "perplexity";
  task.lower_is_better = continues;
  task.info.name = has(record, "task") ? text_field(record, "task")
                   : continues         ? "perplexity"
                                       : "prompts";
  if (has(record, "length")) task.info.name += fmt::format("@{}", count_field(record, "length"));
  task.samples = [tokenizer](const Json& each) {
    return std::vector<Sample>{make_sample(each, tokenizer)};
  };
  if (continues) {
    task.score = [](const Sample& /*sample*/, const Answer& answer) { return loss_scores(answer); };
  } else {
    require_judgeable(task.info.metric, make_sample(record, tokenizer).reference);
    task.score = [metric = task.info.metric](const Sample& sample, const Answer& answer) {
      return Scores{{metric, judge(metric, sample, answer)}};
    };
  }
  return task;
}

std::vector<TaskInfo> tasks() {
  return {{.name = "prompts",
           .category = "own",
           .metric = std::string(kMatchAll),
           .file = "FILE.jsonl",
           .source = "you: a file FILE.jsonl or FILE.jsonl.gz as data, one record per line"}};
}

std::vector<std::unique_ptr<Task>> open(const SuiteOptions& options,
                                        std::vector<SkippedLine>& skipped) {
  choose_profile(options.profile, kProfiles);
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(options.data, ignored)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("'{}' is not a file; the data must be your records, FILE.jsonl",
                            options.data.string()));
  }
  auto opened =
      open_tasks_of_file([&](const Json& record) { return task_of(record, options.tokenizer); },
                         options.data, options.limit, skipped);
  if (options.tasks.empty()) return opened;
  std::vector<TaskInfo> infos(opened.size());
  for (size_t i = 0; i < opened.size(); ++i) infos[i].name = opened[i]->name();
  const std::vector<std::string> chosen = choose_tasks(infos, options.tasks);
  std::erase_if(opened, [&](const auto& task) {
    return std::ranges::find(chosen, task->name()) == chosen.end();
  });
  return opened;
}

Scores summarize(std::string_view task, std::span<const Scores> samples) {
  const bool losses = !samples.empty() && samples[0].at(0).first == "nll";
  return losses ? summarize_losses(task, samples) : mean_scores(samples);
}

}  // namespace

Suite own_prompts_suite() {
  return {.name = "prompts",
          .summary = "your own prompts, as texts or token ids, with the answers wanted",
          .tasks = tasks,
          .open = open,
          .summarize = summarize,
          .takes_file = true,
          .has_contexts = true};
}

}  // namespace restkv::eval
