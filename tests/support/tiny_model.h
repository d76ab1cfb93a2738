#pragma once

#include <ggml.h>
#include <gguf.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace restkv::testing {

/// One weight of a tiny model before it is converted and written: `rows` x `cols` row-major values;
/// a norm is one row.
struct TinyTensor {
  std::string name;
  size_t rows = 0;
  size_t cols = 0;
  std::vector<float> values;
};

/// A `llama` model with random weights, as a GGUF file that libllama reads too (if it has a
/// tokenizer). The same description gives the same weights on every machine.
struct TinyModel {
  size_t layers = 2;
  size_t width = 64;
  size_t query_heads = 4;
  size_t kv_heads = 2;
  size_t head_dim = 16;
  size_t ffn_width = 96;
  size_t context = 4096;
  ggml_type type = GGML_TYPE_F32;  ///< Of the matrices; their columns must fill whole blocks.
  bool tied = false;               ///< Unembed with the embedding table.
  /// Copy the tokenizer of `test_model_path()`: `vocabulary` is then its 49152 tokens. Without one,
  /// `vocabulary` is written as `llama.vocab_size`.
  bool tokenizer = false;
  size_t vocabulary = 256;
  uint64_t seed = 1;

  /// Last changes, for models that are wrong in one point: to the metadata, and to every tensor
  /// (false leaves it out).
  std::function<void(gguf_context*)> edit_metadata = {};
  std::function<bool(TinyTensor&)> edit_tensor = {};

  /// Throws std::runtime_error if the file cannot be written.
  void write(const std::string& path) const;
};

/// The real model of the tests (SmolLM2-135M-Instruct): the environment variable RESTKV_MODEL, or
/// where the set-up puts it. Throws std::runtime_error if there is none, which fails the test.
std::string test_model_path();

/// A new folder that is removed, with what is in it, at the end of the scope.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  [[nodiscard]] std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace restkv::testing
