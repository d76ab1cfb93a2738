#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "restkv/budget.h"
#include "restkv/sampler.h"
#include "restkv/sparse.h"

namespace restkv::cli {

/// "312; layer by layer 288 336": the mean, then each layer that has a number.
std::string kept_text(const std::vector<std::optional<double>>& layers);

/// What a run cost; filled as the run goes on, so that an interrupted one can tell too.
struct RunStats {
  std::string model;       ///< The file.
  std::string model_name;  ///< What the file calls itself; may be empty.
  SamplingOptions sampling;
  std::string method;
  Budget budget;  // 0: all is kept
  /// Tokens per KV head of each layer when the prompt has been read; of layers with a sliding
  /// window none.
  std::vector<std::optional<double>> kept_of_layers;
  std::string kv_type;
  size_t layers = 0;
  size_t window_layers = 0;  // whose cache is their sliding window, whatever the budget
  size_t prompt_tokens = 0;
  size_t cached_tokens = 0;  // read by an earlier run
  double load_seconds = 0;
  double cache_load_seconds = 0;
  double prefill_seconds = 0;  // up to the first token
  double compress_seconds = 0;
  size_t generated_tokens = 0;
  std::optional<std::string> finish_reason;  // none if no answer was wanted, or there is none yet
  double decode_tokens_per_second = 0;
  std::string answer;
  std::optional<Json> logprobs;  // of the answer's tokens, in the form of chat interfaces
  size_t kv_bytes_full = 0;
  size_t kv_bytes_kept = 0;    // when the prompt has been read
  size_t kv_bytes_at_end = 0;  // behind the answer
  double kept_at_end = 0;      // tokens per KV head
  size_t cuts = 0;             // while the answer was written
  SparseOptions sparse_options;
  SparseReport sparse;
  bool interrupted = false;

  [[nodiscard]] double prefill_tokens_per_second() const {
    return prefill_seconds > 0 ? static_cast<double>(prompt_tokens) / prefill_seconds : 0;
  }
  /// For people, a line for each figure.
  [[nodiscard]] std::string text() const;
  /// For programs.
  [[nodiscard]] std::string json() const;
};

}  // namespace restkv::cli
