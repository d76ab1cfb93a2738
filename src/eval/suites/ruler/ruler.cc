#include "eval/suites/ruler/ruler.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>

#include "eval/suites/essays.h"
#include "eval/suites/find_file.h"
#include "eval/suites/record_task.h"
#include "eval/suites/ruler/fit_units.h"
#include "eval/suites/ruler/generator.h"
#include "eval/suites/ruler/metrics.h"
#include "eval/suites/ruler/question_answering.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

const Json& prompts() {
  static const Json& ruler = benchmark_prompts().at("ruler");
  return ruler;
}

/// The order of RULER's own tables.
constexpr std::array<std::string_view, 13> kTasks = {"niah_single_1",
                                                     "niah_single_2",
                                                     "niah_single_3",
                                                     "niah_multikey_1",
                                                     "niah_multikey_2",
                                                     "niah_multikey_3",
                                                     "niah_multivalue",
                                                     "niah_multiquery",
                                                     "vt",
                                                     "cwe",
                                                     "fwe",
                                                     "qa_1",
                                                     "qa_2"};

constexpr std::array<std::string_view, 2> kProfiles = {"official", "restkv"};

bool has_essays(const Json& task) { return task.at("args").value("type_haystack", "") == "essay"; }

bool is_question_answering(const Json& task) { return task.at("generator") == "qa"; }

std::vector<TaskInfo> task_list() {
  std::vector<TaskInfo> infos;
  for (const std::string_view name : kTasks) {
    const Json& task = prompts().at("tasks").at(name);
    TaskInfo info{.name = std::string(name),
                  .category = task.at("category").get<std::string>(),
                  .metric = task.at("metric").get<std::string>(),
                  .file = {},
                  .source = {}};
    if (is_question_answering(task)) {
      const bool squad = task.at("args").at("dataset") == "squad";
      info.file = squad ? "ruler/squad*.json" : "ruler/hotpotqa*.json";
      info.source = squad ? "rajpurkar.github.io/SQuAD-explorer (SQuAD 2.0, development set)"
                          : "hotpotqa.github.io (development set, distractor setting)";
    }
    infos.push_back(std::move(info));
  }
  return infos;
}

/// The prompts of one task at one length.
class Length {
 public:
  Length(std::unique_ptr<ruler::Generator> generator, ruler::Fit fit, std::string stream,
         uint64_t seed)
      : generator_(std::move(generator)),
        fit_(std::move(fit)),
        stream_(std::move(stream)),
        seed_(seed) {}

  [[nodiscard]] size_t questions() const { return generator_->questions(); }

  /// Throws `Error` (kInvalidArgument) if one of the first `samples` prompts cannot be made. One
  /// check suffices for drawn prompts, but not for given questions.
  void check(size_t samples) const {
    for (size_t i = 0; i < (questions() > 0 ? samples : 1); ++i) {
      make_fitting(*generator_, fit_, generator_->fewest(), maker(i));
    }
  }

  [[nodiscard]] ruler::Text text(size_t index) const {
    std::call_once(fitted_, [&] {
      units_ = fit_units(*generator_, fit_, [&](size_t units) {
        Random random(seed_, stream_ + "/fit", 0);
        return generator_->make(random, units, 0);
      });
    });
    ruler::Text text = make_fitting(*generator_, fit_, units_, maker(index));
    text.prepend(generator_->before_prompt());
    return text;
  }

 private:
  [[nodiscard]] std::function<ruler::Text(size_t units)> maker(size_t index) const {
    return [this, index](size_t units) {
      Random random(seed_, stream_, index);
      return generator_->make(random, units, index);
    };
  }

  std::unique_ptr<ruler::Generator> generator_;
  ruler::Fit fit_;
  std::string stream_;  ///< Name of the random stream.
  uint64_t seed_;
  mutable std::once_flag fitted_;
  mutable size_t units_ = 0;
};

struct TaskOptions {
  std::string name;
  const Json* task = nullptr;
  bool official = true;
  std::vector<std::string> notes;
  std::vector<std::filesystem::path> files;
};

class RulerTask : public Task {
 public:
  explicit RulerTask(TaskOptions options) : options_(std::move(options)) {}

  void add(size_t tokens, size_t samples, std::unique_ptr<Length> length) {
    for (size_t i = 0; i < samples; ++i) samples_.push_back({tokens, i, length.get()});
    published_ += prompts().at("defaults").at("num_samples").get<size_t>();
    lengths_.push_back(std::move(length));
  }

  [[nodiscard]] std::string name() const override { return options_.name; }
  [[nodiscard]] std::string category() const override {
    return options_.task->at("category").get<std::string>();
  }
  [[nodiscard]] size_t size() const override { return samples_.size(); }
  [[nodiscard]] size_t published_size() const override { return published_; }
  [[nodiscard]] std::vector<std::string> notes() const override { return options_.notes; }
  [[nodiscard]] std::vector<std::filesystem::path> files() const override { return options_.files; }

  [[nodiscard]] Sample sample(size_t index) const override {
    const Place& place = samples_.at(index);
    ruler::Text text = place.length->text(place.index);
    Sample sample;
    sample.id = fmt::format("{}_{}", place.tokens, place.index);
    sample.prompt = std::move(text.prompt);
    sample.context_end = text.context_end;
    sample.answer_prefix = std::move(text.answer_prefix);
    sample.always_raw = !options_.official;
    sample.length = place.tokens;
    sample.depth = text.depth;
    sample.max_new_tokens =
        options_.task->at(options_.official ? "tokens_to_generate" : "restkv_max_new_tokens")
            .get<size_t>();
    sample.reference = {{"answers", text.answers}};
    return sample;
  }

  [[nodiscard]] Scores score(const Sample& sample, const Answer& answer) const override {
    const auto answers = sample.reference.at("answers").get<std::vector<std::string>>();
    const std::string prediction = options_.official ? ruler_postprocess(answer.text) : answer.text;
    const auto metric = options_.task->at("metric").get<std::string>();
    return {{metric, metric == "string_match_part" ? string_match_part(prediction, answers)
                                                   : string_match_all(prediction, answers)}};
  }

 private:
  struct Place {
    size_t tokens = 0;
    size_t index = 0;
    const Length* length = nullptr;
  };
  TaskOptions options_;
  std::vector<std::unique_ptr<Length>> lengths_;
  std::vector<Place> samples_;
  size_t published_ = 0;
};

std::vector<size_t> chosen_lengths(const SuiteOptions& options) {
  constexpr size_t kShortest = 64;
  for (const size_t length : options.lengths) {
    if (length >= kShortest + options.reserved) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("RULER prompts of {} tokens are too short for any task; use {} or more",
                            length, kShortest + options.reserved));
  }
  std::vector<size_t> usual;
  for (const Json& each : prompts().at("defaults").at("sequence_lengths")) {
    usual.push_back(each.get<size_t>());
  }
  std::vector<size_t> lengths = choose_lengths(options, usual);
  if (lengths.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the model's context has {} tokens, but the lengths of RULER begin at "
                            "4096; choose others, for instance lengths {}",
                            options.context, options.context));
  }
  return lengths;
}

std::unique_ptr<ruler::Generator> make_generator(const ruler::Setup& setup,
                                                 std::shared_ptr<const ruler::QaData> questions) {
  const auto kind = setup.task->at("generator").get<std::string>();
  if (kind == "niah") return needle_generator(setup);
  if (kind == "variable_tracking") return variable_tracking_generator(setup);
  if (kind == "common_words_extraction") return common_words_generator(setup);
  if (kind == "freq_words_extraction") return frequent_words_generator(setup);
  return question_answering_generator(setup, std::move(questions));
}

/// Shared data of the tasks of a run.
class Opener {
 public:
  explicit Opener(const SuiteOptions& options)
      : options_(options),
        official_(choose_profile(options.profile, kProfiles) == kProfiles.front()),
        lengths_(chosen_lengths(options)) {}

  std::vector<std::unique_ptr<Task>> open() {
    const std::vector<TaskInfo> known = task_list();
    std::vector<std::unique_ptr<Task>> tasks;
    for (const std::string& name : choose_tasks(known, options_.tasks)) {
      const auto info = std::ranges::find(known, name, &TaskInfo::name);
      const Json& task = prompts().at("tasks").at(name);
      if (!official_ && task.at("restkv_max_new_tokens").is_null()) {
        if (options_.tasks.empty()) continue;
        throw Error(ErrorCode::kInvalidArgument,
                    fmt::format("the profile restkv does not have the task {}; use the profile "
                                "official",
                                name));
      }
      std::optional<std::filesystem::path> file;
      if (is_question_answering(task)) {
        file = find_file(options_.data, info->file);
        if (!file && options_.tasks.empty()) continue;
        if (!file) {
          throw Error(ErrorCode::kInput,
                      fmt::format("RULER {} needs {} below the data folder; get it from {}", name,
                                  info->file, info->source));
        }
      }
      tasks.push_back(open_task(name, task, file));
    }
    return tasks;
  }

 private:
  std::unique_ptr<Task> open_task(const std::string& name, const Json& task,
                                  const std::optional<std::filesystem::path>& file) {
    TaskOptions about{.name = name, .task = &task, .official = official_, .notes = {}, .files = {}};
    std::shared_ptr<const ruler::QaData> questions;
    if (file) {
      const bool squad = task.at("args").at("dataset") == "squad";
      questions = std::make_shared<ruler::QaData>(squad ? ruler::read_squad(*file)
                                                        : ruler::read_hotpotqa(*file));
      about.files = {*file};
      about.notes = {fmt::format("{}: {} questions on {} documents", file->filename().string(),
                                 questions->questions.size(), questions->documents.size())};
    }
    if (has_essays(task)) {
      about.files = essays()->files;
      about.notes = essays()->notes;
    }
    auto opened = std::make_unique<RulerTask>(std::move(about));
    for (const size_t tokens : lengths_) {
      const ruler::CountTokens count = [tokenizer = options_.tokenizer](std::string_view text) {
        return tokenizer->encode(text, false, false).size();
      };
      const ruler::Setup setup{.prompts = &prompts(),
                               .task = &task,
                               .length = tokens,
                               .seed = options_.seed,
                               .count_tokens = count,
                               .essays = has_essays(task) ? essays() : nullptr};
      ruler::Fit fit{.length = tokens - options_.reserved,
                     .tokens_to_generate = task.at("tokens_to_generate").get<size_t>(),
                     .count_tokens = count};
      try {
        auto length =
            std::make_unique<Length>(make_generator(setup, questions), std::move(fit),
                                     fmt::format("ruler/{}/{}", name, tokens), options_.seed);
        auto samples = prompts().at("defaults").at("num_samples").get<size_t>();
        if (length->questions() > 0) samples = std::min(samples, length->questions());
        if (options_.limit > 0) samples = std::min(samples, options_.limit);
        length->check(samples);
        opened->add(tokens, samples, std::move(length));
      } catch (const Error& error) {
        throw Error(error.code(), fmt::format("RULER {}: {}", name, error.what()));
      }
    }
    return opened;
  }

  /// Essays of as many words as the longest prompt has tokens.
  std::shared_ptr<const Essays> essays() {
    if (!essays_) {
      essays_ = std::make_shared<Essays>(
          load_essays(options_.data, std::ranges::max(lengths_), options_.seed));
    }
    return essays_;
  }

  const SuiteOptions& options_;
  bool official_;
  std::vector<size_t> lengths_;
  std::shared_ptr<const Essays> essays_;
};

std::vector<std::unique_ptr<Task>> open(const SuiteOptions& options, std::vector<SkippedLine>&) {
  return Opener(options).open();
}

Scores summarize(std::string_view task, std::span<const Scores> samples) {
  const auto metric = prompts().at("tasks").at(task).at("metric").get<std::string>();
  std::vector<double> scores;
  for (const Scores& sample : samples) scores.push_back(sample.at(0).second);
  return {{metric, ruler_task_score(scores)}};
}

}  // namespace

Suite ruler_suite() {
  return {.name = "ruler",
          .summary =
              "RULER: 13 generated tasks (retrieval, tracing, aggregation, questions) at "
              "any length",
          .tasks = task_list,
          .open = open,
          .summarize = summarize,
          .remark = "generated natively in RULER's layout: not the published random draws",
          .has_contexts = true,
          .has_lengths = true,
          .draws_samples = true};
}

}  // namespace restkv::eval
