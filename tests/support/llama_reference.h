#pragma once

#include <llama.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace restkv::testing {

/// libllama on a GGUF file: float32 cache, no flash attention.
class LlamaReference {
 public:
  struct Options {
    uint32_t context = 2048;
    int threads = 1;
    /// Computes GELU exactly. ggml uses a table of half-precision numbers, which changes the logits
    /// of a float32 Gemma by thousandths.
    bool exact_gelu = false;
  };
  /// Throws std::runtime_error with libllama's message if the file does not load.
  LlamaReference(const std::string& path, const Options& options);
  explicit LlamaReference(const std::string& path) : LlamaReference(path, Options()) {}

  [[nodiscard]] size_t vocabulary() const;
  /// Feeds tokens after the earlier ones; `logits(i)` are then those after tokens[i].
  void feed(std::span<const int32_t> tokens);
  [[nodiscard]] std::span<const float> logits(size_t i) const;
  /// Forgets everything that was fed.
  void restart();

 private:
  std::unique_ptr<llama_model, decltype(&llama_model_free)> model_{nullptr, llama_model_free};
  std::unique_ptr<llama_context, decltype(&llama_free)> context_{nullptr, llama_free};
  llama_pos next_ = 0;
};

}  // namespace restkv::testing
