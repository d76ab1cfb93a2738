#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "restkv/sampler.h"
#include "restkv/tokenizer.h"

/// Benchmarks: a suite (LongBench) has tasks (hotpotqa), a task has samples, a sample is one prompt
/// and what is wanted after it. Suites know texts and metrics and nothing of models; the runner
/// knows models and nothing of benchmarks.
namespace restkv::eval {

enum class SampleMode {
  kGenerate,  ///< Continue the prompt; a metric judges the text.
  kChoose,    ///< The log-likelihood of each choice as a continuation of the prompt.
  kContinue,  ///< The loss of given tokens after the prompt (teacher forcing).
};

/// One turn of a conversation that is held on one cache: the message is added to what the cache has
/// kept of the turns before, compressed with it, and answered; nothing is ever read again.
struct Turn {
  std::string prompt;              ///< The user's message.
  std::string answer_prefix = {};  ///< Begins the answer, after the chat template.
  /// What the later turns see as the whole answer, prefix included; "": what the model said.
  std::string forced_answer = {};
  /// Once answered, the conversation goes back to where it was before this turn.
  bool undone = false;
};

struct Sample {
  std::string id;  ///< Unique within the task and the same in every run.
  SampleMode mode = SampleMode::kGenerate;

  std::string prompt;           ///< The text; a chat template, if wanted, goes around it.
  std::string answer_prefix;    ///< Begins the answer: after prompt and chat template.
  std::vector<int32_t> tokens;  ///< Where not empty: the whole prompt, used as it is.
  bool always_raw = false;      ///< Never in a chat template (few-shot and code tasks).
  bool add_special = true;      ///< Begin-of-text and the like, as the model wants them.
  /// The text may hold a template written by hand: its control tokens survive a cut of its middle.
  bool keep_control_tokens = false;

  // What reports group samples by, where the suite has a choice.
  std::optional<size_t> length;  ///< Wanted length of the prompt in tokens.
  std::optional<double> depth;   ///< Where the needle stands, 0 (start of the text) to 1 (end).

  // kGenerate
  size_t max_new_tokens = 0;
  size_t min_new_tokens = 1;           ///< An end token is not allowed earlier.
  std::vector<std::string> stops;      ///< The text ends before the first of these.
  bool stop_at_newline_token = false;  ///< Ends at the last token of the encoding of "\n".
  SamplingOptions sampling;            ///< Greedy, if nothing else is said.
  size_t draws = 1;                    ///< Texts wanted; draw i has the seed `sampling.seed` + i.

  std::vector<std::string> choices;   ///< kChoose: continuations with their delimiter.
  std::vector<int32_t> continuation;  ///< kContinue.

  /// kGenerate: a conversation, each turn answered like a prompt. `prompt` is then the beginning of
  /// the first message, prefilled and compressed on its own before the first turn; may be empty.
  std::vector<Turn> turns;

  Json reference;  ///< What the task's metric compares with; stands in result lines.
};

/// What a model made of a sample.
struct Answer {
  std::string text;                     ///< kGenerate: the first draw; valid UTF-8, not stripped.
  std::vector<std::string> more_texts;  ///< kGenerate: the other draws.
  std::vector<double> log_likelihoods;  ///< kChoose: one per choice.
  std::vector<char> greedy;             ///< kChoose: every token was the most likely one.
  std::vector<double> token_losses;     ///< kContinue: -log p of each token.

  std::vector<std::string> turn_texts;  ///< Sample::turns: one per turn, without its prefix.
  std::vector<size_t> turn_tokens;      ///< Tokens held per layer and head when a turn is answered.
};

/// Named figures in the order in which reports show them; the first is the task's main metric.
using Scores = std::vector<std::pair<std::string, double>>;

class Task {
 public:
  virtual ~Task() = default;
  [[nodiscard]] virtual std::string name() const = 0;
  [[nodiscard]] virtual std::string category() const = 0;
  [[nodiscard]] virtual size_t size() const = 0;
  /// What a report must say beside the figures: project-defined, incomplete isolation, ...
  [[nodiscard]] virtual std::vector<std::string> notes() const { return {}; }
  /// Sample `index`; the same one for the same options, on every platform.
  [[nodiscard]] virtual Sample sample(size_t index) const = 0;
  /// Figures of one answer, each usually 0 to 1. `Suite::summarize` gets those of all samples, also
  /// from a file of results, so they must hold all that it needs.
  [[nodiscard]] virtual Scores score(const Sample& sample, const Answer& answer) const = 0;
  /// Whether a smaller main metric is better (perplexity).
  [[nodiscard]] virtual bool lower_is_better() const { return false; }
  /// Samples of the published data set; fewer make the results those of a subset. 0: none is
  /// published.
  [[nodiscard]] virtual size_t published_size() const { return 0; }
  /// The data files that samples are made from; reports name them with their SHA-256.
  [[nodiscard]] virtual std::vector<std::filesystem::path> files() const { return {}; }
};

/// A line of a data file that was left out, for the report.
struct SkippedLine {
  std::filesystem::path file;
  size_t line = 0;
  std::string reason;
};

struct SuiteOptions {
  const Tokenizer* tokenizer = nullptr;
  std::filesystem::path data;      ///< Folder of the suites' files; may be empty.
  std::vector<std::string> tasks;  ///< Empty: all that need no missing file.
  std::vector<size_t> lengths;     ///< Prompt lengths in tokens, where the suite has a choice.
  size_t limit = 0;                ///< Samples per task; 0: all.
  uint64_t seed = 42;
  std::string profile;  ///< "official", "restkv"; empty: the suite's default.
  size_t context = 0;   ///< Tokens that the model holds.
  /// Tokens of a prompt of a wanted length that are left free, for the chat template around it.
  size_t reserved = 0;

  bool allow_code_execution = false;  ///< Code written by the model may be run (in a sandbox).
  bool reduced_sandbox = false;       ///< Also where the machine does not permit the whole sandbox.
  size_t shots = 0;       ///< Solved questions before each one, in suites of multiple choice.
  size_t draws = 1;       ///< Texts per sample, where a suite makes use of several.
  float temperature = 0;  ///< 0: greedy; suites that draw several texts need more.
};

/// What `restkv eval --list` says of a task.
struct TaskInfo {
  std::string name;
  std::string category;
  std::string metric;
  std::string file;    ///< Below the data folder, with the suite's own names; "": generated.
  std::string source;  ///< Where the file is to be had.
  /// Names that the file has elsewhere; one of them will do.
  std::vector<std::string> other_files = {};
  bool generated_if_missing = false;  ///< The program makes records of its own instead.
};

struct Suite {
  std::string_view name;
  std::string_view summary;
  std::vector<TaskInfo> (*tasks)();
  /// Throws `Error`: kInvalidArgument (unknown task, profile or length), kInput (a named task's
  /// file is missing). Malformed lines go to `skipped`; the others are used.
  std::vector<std::unique_ptr<Task>> (*open)(const SuiteOptions& options,
                                             std::vector<SkippedLine>& skipped);
  /// Figures of one task from those of its samples; null: `mean_scores`. Reports call it without
  /// the suite's data.
  Scores (*summarize)(std::string_view task, std::span<const Scores> samples) = nullptr;
  /// What reports must say (which variant of a metric, for instance).
  std::string_view remark = {};
  bool multiple_choice = false;  ///< All its samples are kChoose.
  bool scores_tokens = false;    ///< All its samples are kContinue.
  bool takes_file = false;       ///< `SuiteOptions::data` may be a file instead of a folder.
  bool runs_code = false;        ///< Its scores come from running what the model wrote.
  bool has_lengths = false;      ///< Reads `SuiteOptions::lengths`.
  bool draws_texts = false;      ///< Reads `draws` and `temperature`.
  bool draws_samples = false;    ///< Reads `seed`; suites of multiple choice do where `shots` > 0.
};

/// The mean of each figure times 100.
Scores mean_scores(std::span<const Scores> samples);

/// All suites. Adding one is a file in suites/ and a line in suites.cc.
std::span<const Suite> suites();
const Suite& find_suite(std::string_view name);

/// The templates and limits of the benchmarks (suites/prompts.json).
const Json& benchmark_prompts();

}  // namespace restkv::eval
