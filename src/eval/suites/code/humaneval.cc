#include "eval/suites/code/humaneval.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "eval/jsonl.h"
#include "eval/metrics/pass_at_k.h"
#include "eval/suites/code/code_context.h"
#include "eval/suites/code/code_problem.h"
#include "eval/suites/fill_template.h"
#include "eval/suites/find_file.h"
#include "eval/suites/longbench/longbench.h"
#include "eval/suites/record_task.h"
#include "restkv/error.h"
#include "sandbox/sandbox.h"

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;

/// "completion": the prompt is continued, as published. "instruct": a chat message asks for it.
constexpr std::array<std::string_view, 2> kProfiles = {"completion", "instruct"};

constexpr size_t kPublished = 164;
constexpr size_t kTurns = 4;  // problems of a conversation; 164 is a multiple
constexpr std::array<size_t, 3> kDraws{1, 10, 100};
constexpr std::array<size_t, 7> kContextLengths{0, 4096, 8192, 16384, 32768, 65536, 131072};
constexpr std::array<size_t, 3> kConversationLengths{0, 51200, 204800};

constexpr std::string_view kSource =
    "https://github.com/openai/human-eval (data/HumanEval.jsonl.gz)";
constexpr std::string_view kContextSource =
    "https://github.com/openai/human-eval (data/HumanEval.jsonl.gz); for the contexts also "
    "longbench/lcc.jsonl and longbench/repobench-p.jsonl";

enum class Variant { kBase, kContext, kHelper, kForced, kFree };

struct VariantName {
  Variant variant;
  std::string_view name;
  std::string_view category;
};

constexpr std::array<VariantName, 5> kVariants{
    {{Variant::kBase, "humaneval", "code"},
     {Variant::kContext, "context", "code, context"},
     {Variant::kHelper, "helper", "code, context"},
     {Variant::kForced, "turns", "code, conversation"},
     {Variant::kFree, "turns-free", "code, conversation"}}};

const Json& rules() { return benchmark_prompts().at("humaneval"); }

std::string instruct_rule(const char* name) {
  return rules().at("instruct_variant").at(name).get<std::string>();
}

/// Shared state of the tasks of a run.
struct Common {
  SuiteOptions options;
  bool instruct = false;
  std::vector<CodeProblem> problems;
  CodeFiles files;  ///< For contexts.
  std::vector<fs::path> sources;
  std::vector<std::string> context_notes;
  Sandbox sandbox;

  [[nodiscard]] bool passes(const Harness& harness, std::string_view completion) const {
    const std::chrono::duration<double> seconds(rules().at("timeout_seconds").get<double>());
    const SandboxLimits limits{.wall =
                                   std::chrono::duration_cast<std::chrono::milliseconds>(seconds)};
    return sandbox.run(assemble(harness, completion), limits).passed();
  }
};

Json to_json(const Harness& harness) {
  return {{"before", harness.before}, {"after", harness.after}};
}
Harness to_harness(const Json& reference) {
  return {reference.at("before").get<std::string>(), reference.at("after").get<std::string>()};
}

class HumanEvalTask : public Task {
 public:
  HumanEvalTask(std::shared_ptr<const Common> common, VariantName variant)
      : common_(std::move(common)), variant_(variant) {}

  [[nodiscard]] std::string name() const override { return std::string(variant_.name); }
  [[nodiscard]] std::string category() const override { return std::string(variant_.category); }
  [[nodiscard]] std::vector<fs::path> files() const override { return common_->sources; }
  [[nodiscard]] std::vector<std::string> notes() const override {
    std::vector<std::string> notes;
    if (variant_.variant != Variant::kBase) {
      notes.emplace_back("a variant defined by this project: no published figures exist for it");
      notes.insert(notes.end(), common_->context_notes.begin(), common_->context_notes.end());
    }
    for (const MissingLayer& missing : common_->sandbox.missing()) {
      notes.push_back(fmt::format("code was run with incomplete isolation: {}", missing.sentence));
    }
    return notes;
  }

 protected:
  [[nodiscard]] const Common& common() const { return *common_; }
  [[nodiscard]] Variant variant() const { return variant_.variant; }

  /// A sample with the settings of generation, without a prompt.
  [[nodiscard]] Sample new_sample(std::string id, bool instruct) const {
    Sample sample;
    sample.id = std::move(id);
    sample.max_new_tokens = rules().at("max_new_tokens").get<size_t>();
    if (instruct) {
      sample.stops = {instruct_rule("cut_response_at")};
    } else {
      sample.always_raw = true;
      sample.stops = rules().at("stop_sequences").get<std::vector<std::string>>();
    }
    sample.draws = common_->options.draws;
    sample.sampling.temperature = common_->options.temperature;
    sample.sampling.top_k = 0;
    sample.sampling.min_p = 0;
    sample.sampling.top_p = rules().at("sampling_for_k_gt_1").at("top_p").get<float>();
    sample.sampling.seed = static_cast<uint32_t>(common_->options.seed);
    return sample;
  }

  /// Throws `Error` (kInput) if there are not enough files.
  [[nodiscard]] CodeFiles::Choice choose_files(const CodeFiles::Request& request,
                                               Random& random) const {
    CodeFiles::Choice choice = common_->files.choose(request, *common_->options.tokenizer, random);
    if (choice.all_used) {
      throw Error(ErrorCode::kInput,
                  fmt::format("a prompt of {} tokens is asked for, but all files of code together "
                              "have {}; add longbench/lcc.jsonl and longbench/repobench-p.jsonl "
                              "to the data folder, or use shorter lengths",
                              request.limit, choice.tokens));
    }
    return choice;
  }

 private:
  std::shared_ptr<const Common> common_;
  VariantName variant_;
};

/// One problem per sample: as published, or behind a context.
class ProblemTask : public HumanEvalTask {
 public:
  /// `problems`: positions in `common->problems`. `lengths`: empty for no context.
  ProblemTask(std::shared_ptr<const Common> common, VariantName variant,
              std::vector<size_t> problems, std::vector<size_t> lengths)
      : HumanEvalTask(std::move(common), variant),
        problems_(std::move(problems)),
        lengths_(std::move(lengths)) {}

  [[nodiscard]] size_t size() const override {
    return problems_.size() * std::max<size_t>(1, lengths_.size());
  }
  [[nodiscard]] size_t published_size() const override {
    return variant() == Variant::kBase ? kPublished : 0;
  }

  [[nodiscard]] Sample sample(size_t index) const override {
    const size_t place = problems_.at(index % problems_.size());
    const CodeProblem& problem = common().problems[place];
    if (lengths_.empty()) return without_context(problem);
    const size_t length = lengths_.at(index / problems_.size());
    // The random stream belongs to the problem, so that a longer context extends a shorter one.
    Random random(common().options.seed, name(), place);
    Sample sample = variant() == Variant::kHelper ? with_helper(problem, length, random)
                                                  : behind_context(problem, length, random);
    sample.id = fmt::format("{}@{}", problem.id, length);
    sample.length = length;
    return sample;
  }

  [[nodiscard]] Scores score(const Sample& sample, const Answer& answer) const override {
    const Harness harness = to_harness(sample.reference);
    size_t correct = common().passes(harness, answer.text) ? 1 : 0;
    for (const std::string& text : answer.more_texts) {
      correct += common().passes(harness, text) ? 1 : 0;
    }
    const size_t draws = 1 + answer.more_texts.size();
    Scores scores;
    for (const size_t k : kDraws) {
      if (k <= draws) scores.emplace_back(fmt::format("pass@{}", k), pass_at_k(draws, correct, k));
    }
    if (const Json* module = sample.reference.find("module")) {
      const bool imported =
          answer.text.find(fmt::format("from {} import", module->text())) != std::string::npos;
      scores.emplace_back("helper imported", imported ? 1 : 0);
    }
    return scores;
  }

 private:
  [[nodiscard]] Sample without_context(const CodeProblem& problem) const {
    Sample sample = new_sample(problem.id, common().instruct);
    if (common().instruct) {
      sample.prompt = fill_template(instruct_rule("user"), {{"prompt", problem.prompt}});
      sample.answer_prefix =
          fill_template(instruct_rule("assistant_prefix"), {{"prompt", problem.prompt}});
    } else {
      sample.prompt = problem.prompt;
    }
    sample.reference = to_json(harness_of(problem));
    return sample;
  }

  /// Files in front of `task` that leave room for the answer; none for length 0.
  [[nodiscard]] CodeFiles::Choice files_before(const std::string& task, const CodeProblem& problem,
                                               size_t length, Random& random) const {
    if (length == 0) return {};
    const auto answer = rules().at("max_new_tokens").get<size_t>();
    const size_t alone = common().options.tokenizer->encode(task, true, false).size() + answer;
    if (alone >= length) {
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format("length {} is too short for {}: its prompt and answer take {} tokens; "
                      "choose 0 (no context) or at least 2048",
                      length, problem.id, alone));
    }
    return choose_files(
        {.limit = length - answer,
         .prompt = [&](const std::string& context) { return context + task; },
         .leave_out = [&](const CodeFile& file) { return gives_away(file, problem); }},
        random);
  }

  [[nodiscard]] Sample behind_context(const CodeProblem& problem, size_t length,
                                      Random& random) const {
    const std::string task = file_heading("solution.py") + problem.prompt;
    const CodeFiles::Choice choice = files_before(task, problem, length, random);
    Sample sample = new_sample({}, false);
    sample.prompt = context_text(choice.files) + task;
    sample.reference = to_json(harness_of(problem));
    sample.reference["context_tokens"] = choice.tokens;
    sample.reference["context_files"] = choice.files.size();
    return sample;
  }

  [[nodiscard]] Sample with_helper(const CodeProblem& problem, size_t length,
                                   Random& random) const {
    const HelperProblem helper = take_helper(problem, random).value();
    const std::string task =
        fmt::format("{}# {}, needed below, is defined in a file above: import it from there.\n{}",
                    file_heading("solution.py"), helper.name, helper.rest.prompt);
    Random order(common().options.seed, name(), random.bits());
    const CodeFiles::Choice choice =
        files_before(file_heading("helpers.py") + helper.source + task, problem, length, order);

    // Any Python file can hold the function; without one, it gets a separate file.
    std::vector<size_t> homes;
    for (size_t i = 0; i < choice.files.size(); ++i) {
      if (!choice.files[i]->module().empty()) homes.push_back(i);
    }
    std::vector<const CodeFile*> files = choice.files;
    CodeFile home{"helpers.py", helper.source, {}};
    if (homes.empty()) {
      files.insert(files.begin() + static_cast<std::ptrdiff_t>(random.below(files.size() + 1)),
                   &home);
    } else {
      const CodeFile*& chosen = files[random.pick(homes)];
      home = {chosen->name, fmt::format("{}\n\n{}", chosen->text, helper.source), chosen->origin};
      chosen = &home;
    }

    Sample sample = new_sample({}, false);
    sample.prompt = context_text(files) + task;
    sample.reference = to_json(harness_of(helper, home.module()));
    sample.reference["module"] = home.module();
    sample.reference["context_tokens"] = choice.tokens;
    sample.reference["context_files"] = choice.files.size();
    return sample;
  }

  std::vector<size_t> problems_;
  std::vector<size_t> lengths_;
};

/// Several problems per sample, one per turn of a conversation; the last turn is undone and
/// repeated.
class ConversationTask : public HumanEvalTask {
 public:
  ConversationTask(std::shared_ptr<const Common> common, VariantName variant, size_t limit,
                   std::vector<size_t> lengths)
      : HumanEvalTask(std::move(common), variant), lengths_(std::move(lengths)) {
    const size_t count = this->common().problems.size();
    Random random(this->common().options.seed, "turns", 0);  // `forced` and `free` alike
    const std::vector<size_t> order = random.sample(count, count);
    // All have kTurns turns, unless there are fewer problems.
    for (size_t first = 0; first == 0 || first + kTurns <= count; first += kTurns) {
      if (limit != 0 && conversations_.size() == limit) break;
      conversations_.emplace_back(
          order.begin() + static_cast<std::ptrdiff_t>(first),
          order.begin() + static_cast<std::ptrdiff_t>(std::min(first + kTurns, count)));
    }
  }

  [[nodiscard]] size_t size() const override { return conversations_.size() * lengths_.size(); }

  [[nodiscard]] Sample sample(size_t index) const override {
    const size_t number = index % conversations_.size();
    const size_t length = lengths_.at(index / conversations_.size());
    std::vector<CodeProblem> problems;
    for (const size_t place : conversations_[number]) problems.push_back(common().problems[place]);

    Sample sample = new_sample(fmt::format("conversation-{}@{}", number, length), true);
    sample.draws = 1;
    sample.length = length;
    Random random(common().options.seed, "turns", 1 + number);
    const auto belongs_to_a_turn = [&](const CodeFile& file) {
      return std::ranges::any_of(problems,
                                 [&](const CodeProblem& p) { return gives_away(file, p); });
    };
    CodeFiles::Choice choice;
    if (length != 0) {
      choice = choose_files({.limit = length,
                             .prompt = [](const std::string& context) { return context; },
                             .leave_out = belongs_to_a_turn},
                            random);
    }
    sample.prompt = context_text(choice.files);
    sample.reference = {{"context_tokens", choice.tokens},
                        {"context_files", choice.files.size()},
                        {"turns", Json::array()}};
    const auto add_turn = [&](const CodeProblem& problem) {
      Turn turn;
      turn.prompt = fill_template(instruct_rule("user"), {{"prompt", problem.prompt}});
      turn.answer_prefix =
          fill_template(instruct_rule("assistant_prefix"), {{"prompt", problem.prompt}});
      if (variant() == Variant::kForced) {
        turn.forced_answer =
            turn.answer_prefix + problem.solution + instruct_rule("cut_response_at");
      }
      sample.turns.push_back(std::move(turn));
      Json reference = to_json(harness_of(problem));
      reference["id"] = problem.id;
      sample.reference["turns"].push_back(std::move(reference));
    };
    for (const CodeProblem& problem : problems) add_turn(problem);
    sample.turns.back().undone = true;
    add_turn(problems.back());
    return sample;
  }

  /// pass@1 over all turns but the repeated one, pass@1 of each turn, and cached tokens.
  [[nodiscard]] Scores score(const Sample& sample, const Answer& answer) const override {
    const size_t turns = sample.turns.size();
    if (answer.turn_texts.size() != turns) {
      throw Error(ErrorCode::kInput, fmt::format("{}: {} turns were asked, {} answered", sample.id,
                                                 turns, answer.turn_texts.size()));
    }
    Scores scores{{"pass@1", 0}};
    double passed = 0;
    for (size_t t = 0; t < turns; ++t) {
      const Harness harness = to_harness(sample.reference.at("turns").at(t));
      const double pass = common().passes(harness, answer.turn_texts[t]) ? 1 : 0;
      const bool again = t + 1 == turns;
      if (!again) passed += pass;
      scores.emplace_back(again ? "pass@1 last turn again" : fmt::format("pass@1 turn {}", t + 1),
                          pass);
    }
    scores.front().second = passed / static_cast<double>(turns - 1);
    for (size_t t = 0; t < answer.turn_tokens.size(); ++t) {
      scores.emplace_back(fmt::format("tokens turn {}", t + 1),
                          static_cast<double>(answer.turn_tokens[t]));
    }
    return scores;
  }

 private:
  std::vector<std::vector<size_t>> conversations_;
  std::vector<size_t> lengths_;
};

std::vector<TaskInfo> tasks() {
  std::vector<TaskInfo> infos;
  infos.reserve(kVariants.size());
  for (const VariantName& variant : kVariants) {
    infos.push_back({std::string(variant.name), std::string(variant.category), "pass@1",
                     "humaneval/HumanEval.jsonl",
                     std::string(variant.variant == Variant::kBase ? kSource : kContextSource)});
  }
  return infos;
}

void check_options(const SuiteOptions& options) {
  if (!options.allow_code_execution) {
    throw Error(ErrorCode::kInvalidArgument,
                "the suite humaneval runs code that the model writes, in a sandbox; permit it by "
                "the option allow-code-execution (docs/benchmarks.md describes the sandbox)");
  }
  if (options.draws > 1 && options.temperature <= 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} draws at temperature 0 are all the same; pass@k is usually "
                            "measured at temperature 0.2 or 0.8",
                            options.draws));
  }
  // Each draw has its own seed. libllama's seeds have 32 bits, and the last one means a random
  // seed.
  const uint64_t seeds = std::numeric_limits<uint32_t>::max();
  if (options.temperature > 0 && (options.seed >= seeds || options.draws > seeds - options.seed)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("the seed {} leaves no room for {} draws below {}; use a smaller one",
                            options.seed, options.draws, seeds));
  }
}

void check_sandbox(const Sandbox& sandbox, const SuiteOptions& options) {
  if (options.reduced_sandbox || sandbox.missing().empty()) return;
  std::string list;
  for (const MissingLayer& missing : sandbox.missing()) {
    list += fmt::format("\n- {}; to have it: {}", missing.sentence, missing.remedy);
  }
  throw Error(
      ErrorCode::kUnsupported,
      fmt::format("the suite humaneval runs code that the model writes, and this machine "
                  "does not support the whole sandbox:{}\nIf that code may do this, set the "
                  "option sandbox to reduced (docs/benchmarks.md describes the rest)",
                  list));
}

void read_problems(Common& common, std::vector<SkippedLine>& skipped) {
  const std::optional<fs::path> file = find_task_file(tasks().front(), common.options.data);
  if (!file) {
    throw Error(ErrorCode::kInput,
                fmt::format("humaneval/HumanEval.jsonl (or .gz) is not in the data folder '{}'; it "
                            "is to be had from {}",
                            common.options.data.string(), kSource));
  }
  read_jsonl(
      *file,
      [&](const Json& record, RecordPlace) {
        common.problems.push_back(code_problem(record));
        return true;
      },
      skipped);
  if (common.problems.empty()) {
    throw Error(ErrorCode::kInput, fmt::format("{}: no line can be used", file->string()));
  }
  common.sources.push_back(*file);
}

void read_context_files(Common& common, std::vector<SkippedLine>& skipped) {
  std::vector<std::string> counts;
  for (const char* set : {"lcc", "repobench-p"}) {
    const size_t before = common.files.files().size();
    if (const auto file = find_task_file(longbench_task(set), common.options.data)) {
      size_t number = 0;
      read_jsonl(
          *file,
          [&](const Json& record, RecordPlace) {
            common.files.add(
                longbench_file(fmt::format("{}/{}", set, number), text_field(record, "context")));
            ++number;
            return true;
          },
          skipped);
      common.sources.push_back(*file);
    }
    counts.push_back(fmt::format("{} of {}", common.files.files().size() - before, set));
  }
  common.files.add_solved(common.problems);
  common.context_notes.push_back(
      fmt::format("contexts are made of {} files: {}, {} solved problems",
                  common.files.files().size(), fmt::join(counts, ", "), common.problems.size()));
}

std::vector<std::unique_ptr<Task>> open(const SuiteOptions& options,
                                        std::vector<SkippedLine>& skipped) {
  check_options(options);
  const auto common = std::make_shared<Common>();
  check_sandbox(common->sandbox, options);
  common->options = options;
  common->instruct = choose_profile(options.profile, kProfiles) == "instruct";
  const std::vector<std::string> wanted = options.tasks.empty()
                                              ? std::vector<std::string>{"humaneval"}
                                              : choose_tasks(tasks(), options.tasks);
  read_problems(*common, skipped);
  if (std::ranges::any_of(wanted, [](const std::string& name) { return name != "humaneval"; })) {
    read_context_files(*common, skipped);
  }

  std::vector<std::unique_ptr<Task>> opened;
  for (const std::string& name : wanted) {
    const VariantName& variant =
        *std::ranges::find(kVariants, std::string_view(name), &VariantName::name);
    if (variant.variant == Variant::kForced || variant.variant == Variant::kFree) {
      opened.push_back(std::make_unique<ConversationTask>(
          common, variant, options.limit, choose_lengths(options, kConversationLengths)));
      continue;
    }
    std::vector<size_t> problems;
    for (size_t i = 0; i < common->problems.size(); ++i) {
      if (options.limit != 0 && problems.size() == options.limit) break;
      Random any(options.seed);
      if (variant.variant != Variant::kHelper || take_helper(common->problems[i], any)) {
        problems.push_back(i);
      }
    }
    if (problems.empty()) {
      throw Error(ErrorCode::kInput, fmt::format("no problem fits the task '{}'", name));
    }
    opened.push_back(std::make_unique<ProblemTask>(common, variant, std::move(problems),
                                                   variant.variant == Variant::kBase
                                                       ? std::vector<size_t>{}
                                                       : choose_lengths(options, kContextLengths)));
  }
  return opened;
}

/// Means: shares times 100, tokens as they are.
Scores summarize(std::string_view /*task*/, std::span<const Scores> samples) {
  Scores means = mean_scores(samples);
  for (auto& [name, value] : means) {
    if (name.starts_with("tokens")) value /= 100;
  }
  return means;
}

}  // namespace

Suite humaneval_suite() {
  return {.name = "humaneval",
          .summary =
              "Python functions, judged by running them (HumanEval); also behind long "
              "contexts and in conversations",
          .tasks = tasks,
          .open = open,
          .summarize = summarize,
          .remark = "answers are cut at the stop sequences before they are run",
          .runs_code = true,
          .has_lengths = true,
          .draws_texts = true,
          .draws_samples = true};
}

}  // namespace restkv::eval
