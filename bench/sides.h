#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "restkv/compress.h"

/// The two runtimes that are compared, each in every setting that could be its fastest.
namespace restkv::bench {

/// What every side does with the same prompt.
struct Job {
  std::string model;            ///< GGUF file.
  std::vector<int32_t> prompt;  ///< Token ids.
  size_t decode = 0;            ///< Tokens decoded greedily after the prompt.
  int threads = 1;
  CompressionOptions compression;  ///< Of the side that compresses.
};

struct Measurement {
  double prefill_seconds = 0;  ///< From the call to the first token.
  double decode_seconds = 0;   ///< For `Job::decode` tokens.
  double compress_seconds =
      0;  ///< restkv: scoring, selection and gathering: part of prefill_seconds.
  double output_factor_seconds = 0;  ///< restkv: once per model, before the clock starts.
  size_t kv_bytes = 0;               ///< restkv: keys and values kept of the prompt.
  std::vector<int32_t> decoded;
  size_t peak_resident_bytes = 0;  ///< Filled by whoever runs the process.
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Measurement, prefill_seconds, decode_seconds, compress_seconds,
                                   output_factor_seconds, kv_bytes, decoded, peak_resident_bytes)

struct Side {
  std::string_view name;
  bool llama = false;
  bool full_cache = true;        ///< restkv: keep everything instead of compressing.
  bool flash_attention = false;  ///< libllama.
  uint32_t ubatch = 0;           ///< libllama: tokens computed together.

  [[nodiscard]] std::string title(const CompressionOptions& compression) const;
  /// Whether this side differs from the others for such a prompt.
  [[nodiscard]] bool applies(size_t prompt_tokens, const CompressionOptions& compression) const;
};

/// In the order of measurement: the runtimes take turns.
std::span<const Side> sides();
/// Throws `Error` (kInvalidArgument).
const Side& find_side(std::string_view name);

/// Loads the model, warms up with the beginning of the prompt, then measures once. Throws `Error`.
Measurement measure(const Side& side, const Job& job);

}  // namespace restkv::bench
