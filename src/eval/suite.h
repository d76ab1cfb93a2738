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

/// Benchmarks: a suite (LongBench) has tasks (hotpotqa), a task has samples, and a sample is a
/// prompt with the expected answer. Suites know texts and metrics, but no models; the runner knows
/// models, but no benchmarks.
namespace restkv::eval {

enum class SampleMode {
  kGenerate,  ///< Continue the prompt; a metric judges the text.
  kChoose,    ///< The log-likelihood of each choice as a continuation of the prompt.
  kContinue,  ///< The loss of given tokens after the prompt (teacher forcing).
};

/// One turn of a conversation on one cache: the message is appended to the compressed cache of
/// earlier turns, compressed with it, and answered. No token is read twice.
struct Turn {
  std::string prompt;              ///< The user's message.
  std::string answer_prefix = {};  ///< Beginning of the answer, after the chat template.
  /// The whole answer that later turns see, prefix included; "": the model's own answer.
  std::string forced_answer = {};
  /// After the answer the conversation returns to its state before this turn.
  bool undone = false;
};

struct Sample {
  std::string id;  ///< Unique within the task and the same in every run.
  SampleMode mode = SampleMode::kGenerate;

  std::string prompt;           ///< The text, without chat template.
  std::string answer_prefix;    ///< Beginning of the answer, after prompt and chat template.
  std::vector<int32_t> tokens;  ///< If not empty: the whole prompt, used unchanged.
  /// Bytes of `prompt`, or number of `tokens`, before the question; 0: it is not known where that
  /// begins.
  size_t context_end = 0;
  /// Number of first `tokens` that a template has put there: methods that let the model repeat the
  /// context leave them out. 0: as far as they are those of the model's own template.
  size_t context_begin = 0;
  bool always_raw = false;  ///< Never in a chat template (few-shot and code tasks).
  bool add_special = true;  ///< Adds begin-of-text if the model uses it.
  /// The text may contain a chat template: its control tokens survive a cut of its middle.
  bool keep_control_tokens = false;

  // Groups of samples in reports:
  std::optional<size_t> length;  ///< Nominal length of the prompt in tokens.
  std::optional<double> depth;   ///< Place of the needle, 0 (start of the text) to 1 (end).

  // kGenerate
  size_t max_new_tokens = 0;
  size_t min_new_tokens = 1;           ///< An end token is not allowed earlier.
  std::vector<std::string> stops;      ///< The text ends before the first of these.
  bool stop_at_newline_token = false;  ///< Ends at the last token of the encoding of "\n".
  SamplingOptions sampling;            ///< Greedy by default.
  size_t draws = 1;  ///< Number of texts; draw i has the seed `sampling.seed` + i.

  std::vector<std::string> choices;   ///< kChoose: continuations with their delimiter.
  std::vector<int32_t> continuation;  ///< kContinue.

  /// kGenerate: a conversation, with each turn answered like a prompt. `prompt` is then the
  /// beginning of the first message, prefilled and compressed before the first turn; it may be
  /// empty.
  std::vector<Turn> turns;

  Json reference;  ///< Reference for the task's metric; stored in result lines.
};

/// A model's answer to a sample.
struct Answer {
  std::string text;                     ///< kGenerate: the first draw; valid UTF-8, not stripped.
  std::vector<std::string> more_texts;  ///< kGenerate: the other draws.
  std::vector<double> log_likelihoods;  ///< kChoose: one per choice.
  std::vector<char> greedy;             ///< kChoose: every token was the most likely one.
  std::vector<double> token_losses;     ///< kContinue: -log p of each token.

  std::vector<std::string> turn_texts;  ///< Sample::turns: one per turn, without its prefix.
  std::vector<size_t> turn_tokens;      ///< Cached tokens per layer and head at each answer.
};

/// Named figures in the order of reports; the first is the task's main metric.
using Scores = std::vector<std::pair<std::string, double>>;

class Task {
 public:
  virtual ~Task() = default;
  [[nodiscard]] virtual std::string name() const = 0;
  [[nodiscard]] virtual std::string category() const = 0;
  [[nodiscard]] virtual size_t size() const = 0;
  /// Notes for reports: project-defined, incomplete isolation, ...
  [[nodiscard]] virtual std::vector<std::string> notes() const { return {}; }
  /// Sample `index`. The same options give the same sample on every platform.
  [[nodiscard]] virtual Sample sample(size_t index) const = 0;
  /// Figures of one answer, each usually 0 to 1. `Suite::summarize` gets those of all samples, also
  /// from a results file, so they must be sufficient for it.
  [[nodiscard]] virtual Scores score(const Sample& sample, const Answer& answer) const = 0;
  /// Whether a smaller main metric is better (perplexity).
  [[nodiscard]] virtual bool lower_is_better() const { return false; }
  /// Number of samples of the published data set, to mark results of a subset. 0: none published.
  [[nodiscard]] virtual size_t published_size() const { return 0; }
  /// The data files of the samples; reports name them with their SHA-256.
  [[nodiscard]] virtual std::vector<std::filesystem::path> files() const { return {}; }
};

/// A skipped line of a data file, for the report.
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
  size_t context = 0;   ///< The model's context in tokens.
  /// Tokens of the nominal prompt length that are reserved for the chat template.
  size_t reserved = 0;

  bool allow_code_execution = false;  ///< Code written by the model may be run (in a sandbox).
  bool reduced_sandbox = false;       ///< Also if the machine does not support the whole sandbox.
  size_t shots = 0;       ///< Solved examples before each question, in suites of multiple choice.
  size_t draws = 1;       ///< Texts per sample, in suites that use several.
  float temperature = 0;  ///< 0: greedy; suites that draw several texts need more.
};

/// Description of a task.
struct TaskInfo {
  std::string name;
  std::string category;
  std::string metric;
  std::string file;    ///< Below the data folder, with the suite's own names; "": generated.
  std::string source;  ///< Where to get the file.
  /// Alternative names of the file.
  std::vector<std::string> other_files = {};
  bool generated_if_missing = false;  ///< Records are generated if the file is missing.
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
  /// Remark for reports, for instance the variant of a metric.
  std::string_view remark = {};
  bool multiple_choice = false;  ///< All its samples are kChoose.
  bool scores_tokens = false;    ///< All its samples are kContinue.
  bool takes_file = false;       ///< `SuiteOptions::data` may be a file instead of a folder.
  bool runs_code = false;        ///< Its scores come from running the model's code.
  bool has_contexts = false;     ///< Its samples have a `context_end`.
  bool has_lengths = false;      ///< Reads `SuiteOptions::lengths`.
  bool draws_texts = false;      ///< Reads `draws` and `temperature`.
  bool draws_samples = false;    ///< Reads `seed`; suites of multiple choice do if `shots` > 0.
};

/// The mean of each figure times 100.
Scores mean_scores(std::span<const Scores> samples);

/// All suites. Adding one is a file in suites/ and a line in suites.cc.
std::span<const Suite> suites();
const Suite& find_suite(std::string_view name);

/// The templates and limits of the benchmarks (suites/prompts.json).
const Json& benchmark_prompts();

}  // namespace restkv::eval
