#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <span>
#include <string>
#include <vector>

#include "make_model/random_model.h"
#include "support/divergence.h"
#include "support/tiny_model.h"

/// The forward pass beside libllama's, on the same file and tokens.
namespace restkv::testing {

/// Tokens of a prompt, several windows of 64, and of the decoding steps behind it.
inline constexpr size_t kParityPrompt = 300;
inline constexpr size_t kParityVocabulary = 512;
std::vector<int32_t> parity_tokens();

/// The logits after each token; [positions][vocabulary].
using Logits = std::vector<std::vector<float>>;

Logits libllama_logits(const std::string& path, std::span<const int32_t> tokens);
/// With GELU computed, not looked up: on float32 files, an exact computation.
Logits exact_libllama_logits(const std::string& path, std::span<const int32_t> tokens);
/// From a cache of float32, like libllama's.
Logits restkv_logits(const std::string& path, std::span<const int32_t> tokens);

/// Over the prompt and over the decoding steps.
struct Parity {
  Divergence prompt, decoding;

  [[nodiscard]] double all_kl() const {
    return (prompt.kl_sum + decoding.kl_sum) / (prompt.rows + decoding.rows);
  }
  [[nodiscard]] double max_difference() const {
    return std::max(prompt.max_difference, decoding.max_difference);
  }
};
Parity compare(const Logits& reference, const Logits& other);

/// A model, and how to write it for libllama where that cannot read the model's own file.
struct ParityCase {
  std::string name;
  RandomModel model;
  std::function<void(const RandomModel&, const std::string& path)> write_for_libllama = {};
};

/// For the messages of failing tests.
void PrintTo(const ParityCase& c, std::ostream* out);
/// The case's name, for a test's.
std::string parity_test_name(std::string name);

/// A tiny preset, small enough for all of them to be compared in seconds.
ParityCase parity_case(const std::string& preset);

/// The files of a case in a folder.
struct ParityFiles {
  ParityFiles(const ParityCase& c, const TemporaryFolder& folder);

  std::string ours, theirs;
};

/// Expects equal logits of a float32 model, up to 1e-3, and prints how equal they are.
void check_float32(const ParityCase& c);

}  // namespace restkv::testing
