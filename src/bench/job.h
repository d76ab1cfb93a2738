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

/// One measurement, made by a separate process.
struct Job {
  std::string side;   ///< Runtime and setting; `kMachine`: the machine's limits instead.
  std::string model;  ///< GGUF file.
  ModelOptions model_options;
  std::vector<int32_t> prompt;  ///< Token ids.
  size_t decode = 0;            ///< Tokens decoded greedily after the prompt.
  int threads = 1;
  CompressionOptions compression;  ///< For the side that compresses.
  KvType kv_type = KvType::kF16;
  std::string sparse = "dense";  ///< restkv: pattern of the prefill, see `parse_sparse`.
  bool sparse_recall = false;    ///< Measure the attention mass that the pattern keeps; costs time.
  /// The prompt is not read: the cache is filled with random rows, and only decoding is measured.
  bool synthetic = false;
  size_t tail = 0;  ///< libllama: number of last tokens of a synthetic prompt that are read.
};

inline constexpr std::string_view kMachine = "machine";

/// A line of JSON, then the token ids as binary int32.
std::string to_text(const Job& job);
/// Throws `Error` (kInvalidArgument) on what `to_text` cannot have written.
Job parse_job(std::string_view text);

/// Result of a job. Times are 0 if not measured.
struct Measurement {
  double prefill_seconds = 0;        ///< From the call to the first token; no recall.
  double decode_seconds = 0;         ///< For `Job::decode` tokens.
  double compress_seconds = 0;       ///< Scoring, selection and gathering: part of prefill_seconds.
  double output_factor_seconds = 0;  ///< Once per model, before the clock starts.
  double sparse_density = 1;         ///< Share of the attention that a sparse prefill computes.
  double sparse_recall = 1;          ///< Attention mass in it, with `Job::sparse_recall`.
  double prefill_flops = 0;          ///< Multiplications and additions of the prompt.
  double decode_bytes = 0;           ///< Weights and cache that one decoded token reads.
  size_t kv_bytes = 0;               ///< Keys and values kept of the prompt.
  std::vector<int32_t> decoded;
  size_t peak_resident_bytes = 0;  ///< Set by the caller of the process.
};
Json to_json(const Measurement& measurement);
/// Missing fields keep their defaults. Throws `Error` (kInput) on unusable ones.
Measurement parse_measurement(std::string_view text);

}  // namespace restkv::bench
