#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "eval/prompt_tokens.h"
#include "eval/suite.h"
#include "model/communicator.h"
#include "restkv/budget.h"
#include "restkv/compress.h"
#include "restkv/engine.h"
#include "restkv/model.h"
#include "restkv/tokenizer.h"

/// Runs a model over the samples of a suite with every method at every budget. Results are stored
/// in a folder (results.h) that a later start continues.
namespace restkv::eval {

/// A method at a budget: a column of every table.
struct Cell {
  std::string name;    ///< "full", "snapkv:kernel=21@64".
  std::string method;  ///< As given by the user: "snapkv:kernel=21".
  Budget budget;       ///< 0: all tokens.
  CompressionOptions options;

  /// The options for `n` tokens to compress.
  [[nodiscard]] CompressionOptions options_for(size_t n) const;
};

/// The cache on which choices of kChoose samples are scored.
enum class ChoiceMode {
  kCompressed,  ///< The compressed cache of the context. First tokens are predicted by the
                ///< context's last position, before the eviction.
  kHeldBack,    ///< The same, but the context's last token is fed to the compressed cache and
                ///< predicts the first tokens.
  kJoint,       ///< None: one prefill with the context, as in the uncompressed model.
};

/// Modes by name: "compressed", "held-back", "joint".
std::string_view choice_mode_name(ChoiceMode mode);
/// Throws `Error` (kInvalidArgument) listing the known names.
ChoiceMode find_choice_mode(std::string_view name);

/// When a method learns what is asked about a context.
enum class QuestionTime {
  kBefore,  ///< The question stands at the end of the prompt that is compressed.
  kAfter,   ///< The context alone is compressed; then the question is read, and all of it stays.
};

struct RunOptions {
  std::filesystem::path folder;
  std::vector<Cell> cells;
  PromptOptions prompt;
  KvType kv_type = KvType::kF16;
  SparseOptions sparse;  ///< Sparse pattern of prompts, for all cells.
  ChoiceMode choices = ChoiceMode::kCompressed;
  QuestionTime question = QuestionTime::kBefore;
  size_t shard = 0;  ///< This process takes every `shards`-th sample, from this one on.
  size_t shards = 1;
  /// Processes that share the samples, each with a model of its own. Rank 0 hands out one after
  /// another, while it answers samples itself, and writes all results. Null: this one is alone.
  Communicator* others = nullptr;
};

struct RunHooks {
  /// Receives the progress of this process, 0 to 1, and a description of the current work.
  std::function<void(double fraction, const std::string& detail)> progress;
  std::function<bool()> interrupted;
  /// Called with true before work that cannot be interrupted (encoding a long text) and with false
  /// after it. The process may exit in between; the folder is then complete, too.
  std::function<void(bool)> uninterruptible;
  std::function<size_t()> peak_bytes;  ///< Peak resident memory of this process so far.
};

/// Counts of a run, for a closing line.
struct RunCount {
  size_t samples = 0;         ///< Samples of this process.
  size_t before = 0;          ///< Those finished by an earlier start.
  size_t unchecked = 0;       ///< Results of this folder without a checksum.
  size_t failed = 0;          ///< Samples recorded as errors (earlier starts included).
  size_t longest_prompt = 0;  ///< Tokens of the longest answered prompt of this folder.
};

/// The settings that determine the results, for run.json and all reports: benchmark, profile, data
/// files with SHA-256, model file hash, every cell with all parameters of its method, limits,
/// decoding, version. `tasks` must have been opened with `options`.
Json run_settings(const Suite& suite, const SuiteOptions& options,
                  std::span<const std::unique_ptr<Task>> tasks,
                  std::span<const SkippedLine> skipped, const Model& model, const RunOptions& run,
                  std::string_view version);

/// Runs every sample of `tasks` without a result in the folder. `open_run` must have been called. A
/// sample that cannot be answered (for instance, too long) is recorded with its error, and the run
/// continues. Throws `Error`: kInterrupted (the folder is complete up to that sample), kIo (written
/// results are not lost), kInvalidArgument (options of a cell, or another process uses the folder).
/// Of several processes all call it; those that are not rank 0 count nothing.
RunCount run_samples(std::span<const std::unique_ptr<Task>> tasks, const Model& model,
                     const Tokenizer& tokenizer, const RunOptions& options, const RunHooks& hooks);

}  // namespace restkv::eval
