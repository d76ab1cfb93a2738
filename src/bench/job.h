#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "restkv/attention.h"
#include "restkv/compress.h"
#include "restkv/model.h"

namespace restkv::bench {

/// One measurement, as a process of its own is told to make it.
struct Job {
  std::string side;   ///< Which runtime and setting; `kMachine`: the machine's limits instead.
  std::string model;  ///< GGUF file.
  ModelOptions model_options;
  std::vector<int32_t> prompt;  ///< Token ids.
  size_t decode = 0;            ///< Tokens decoded greedily after the prompt.
  int threads = 1;
  CompressionOptions compression;  ///< Of the side that compresses.
  KvType kv_type = KvType::kF16;
  std::string sparse = "dense";  ///< restkv: pattern of the prefill, see `parse_sparse`.
  bool sparse_recall = false;    ///< Measure the attention mass that the pattern keeps; costs time.
  /// The prompt is not read: the cache holds random rows in its place, and only decoding counts.
  bool synthetic = false;
  size_t tail = 0;  ///< libllama: of a synthetic prompt, so many last tokens are read after all.
};

inline constexpr std::string_view kMachine = "machine";

/// A line of JSON, then the token ids as they lie in memory.
std::string to_text(const Job& job);
/// Throws `Error` (kInvalidArgument) on what `to_text` cannot have written.
Job parse_job(std::string_view text);

/// What a job found out. Times are 0 where nothing was timed.
struct Measurement {
  double prefill_seconds = 0;        ///< From the call to the first token; no recall.
  double decode_seconds = 0;         ///< For `Job::decode` tokens.
  double compress_seconds = 0;       ///< Scoring, selection and gathering: part of prefill_seconds.
  double output_factor_seconds = 0;  ///< Once per model, before the clock starts.
  double sparse_density = 1;         ///< Part of the attention that a sparse prefill computes.
  double sparse_recall = 1;          ///< Attention mass in it, if that was asked for.
  double prefill_flops = 0;          ///< Multiplications and additions that the prompt needs.
  double decode_bytes = 0;           ///< Weights and cache that one decoded token reads.
  size_t kv_bytes = 0;               ///< Keys and values kept of the prompt.
  std::vector<int32_t> decoded;
  size_t peak_resident_bytes = 0;  ///< Filled by whoever runs the process.
};
Json to_json(const Measurement& measurement);
/// Fields that are missing keep their defaults. Throws `Error` (kInput) on those that cannot be
/// used.
Measurement parse_measurement(std::string_view text);

}  // namespace restkv::bench
