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
#include "restkv/compress.h"
#include "restkv/engine.h"
#include "restkv/model.h"
#include "restkv/tokenizer.h"

/// Runs a model over the samples of a suite with every method at every budget, and keeps what came
/// out in a folder (results.h) that a later start goes on with.
namespace restkv::eval {

/// A method at a budget: a column of every table.
struct Cell {
  std::string name;    ///< "full", "snapkv:kernel=21@64".
  std::string method;  ///< As the user wrote it: "snapkv:kernel=21".
  int budget = 0;      ///< 0: all tokens.
  CompressionOptions options;
};

/// How the choices of kChoose samples are scored: on what cache.
enum class ChoiceMode {
  kCompressed,  ///< On the compressed cache of their context, but for their first tokens: those are
                ///< predicted by the context's last position, before anything is evicted.
  kHeldBack,    ///< The same with the context's last token fed to the compressed cache, so that
                ///< this predicts the first tokens.
  kJoint,       ///< In one prefill with their context: what the uncompressed model says.
};

/// Modes by name: "compressed", "held-back", "joint".
std::string_view choice_mode_name(ChoiceMode mode);
/// Throws `Error` (kInvalidArgument) naming those that there are.
ChoiceMode find_choice_mode(std::string_view name);

struct RunOptions {
  std::filesystem::path folder;
  std::vector<Cell> cells;
  PromptOptions prompt;
  KvType kv_type = KvType::kF16;
  SparseOptions sparse;  ///< How prompts are read, whatever the cell.
  ChoiceMode choices = ChoiceMode::kCompressed;
  size_t shard = 0;  ///< This process takes every `shards`-th sample, from this one on.
  size_t shards = 1;
};

struct RunHooks {
  /// Of this process's share, 0 to 1, and what is being done.
  std::function<void(double fraction, const std::string& detail)> progress;
  std::function<bool()> interrupted;
  /// Called with true before work that cannot be interrupted (a long text becomes tokens) and with
  /// false after it. The process may end in between: the folder is complete then, too.
  std::function<void(bool)> uninterruptible;
  std::function<size_t()> peak_bytes;  ///< Largest resident memory of this process so far.
};

/// What a run did, for a closing line.
struct RunCount {
  size_t samples = 0;         ///< In this process's share.
  size_t before = 0;          ///< Of these, finished by an earlier start.
  size_t unchecked = 0;       ///< Results of this folder that have no checksum.
  size_t failed = 0;          ///< Of these, recorded as errors (earlier starts included).
  size_t longest_prompt = 0;  ///< Tokens, of the prompts of this folder that were answered.
};

/// The settings that decide the results, for run.json and all reports: benchmark, profile, data
/// files with SHA-256, model file hash, every cell with all parameters of its method, limits,
/// decoding, version. `options` must be those that `tasks` were opened with.
Json run_settings(const Suite& suite, const SuiteOptions& options,
                  std::span<const std::unique_ptr<Task>> tasks,
                  std::span<const SkippedLine> skipped, const Model& model, const RunOptions& run,
                  std::string_view version);

/// Runs every sample of `tasks` that the folder has no result for. `open_run` must have been
/// called. A sample that cannot be answered (too long, for instance) is recorded with its error,
/// and the others go on. Throws `Error`: kInterrupted (the folder is complete up to there), kIo
/// (nothing that was written is lost), kInvalidArgument (a cell's options, or another process is at
/// it).
RunCount run_samples(std::span<const std::unique_ptr<Task>> tasks, const Model& model,
                     const Tokenizer& tokenizer, const RunOptions& options, const RunHooks& hooks);

}  // namespace restkv::eval
