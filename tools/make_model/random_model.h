#pragma once

#include <ggml.h>
#include <gguf.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace restkv {

/// How Llama 3.1 stretches the long waves of its rotary embedding: `rope_freqs.weight`.
struct RopeStretch {
  double factor = 8;
  double low_frequency = 1;
  double high_frequency = 4;
  double original_context = 8192;
};

/// One tensor before it is converted and written: `rows` x `cols` row-major values; a norm or a
/// bias is one row. Of experts it has three dimensions: the rows belong to `matrices` matrices.
struct RandomTensor {
  std::string name;
  size_t rows = 0;
  size_t cols = 0;
  size_t matrices = 1;
  std::vector<float> values;
};

/// A model with random weights as a GGUF file for restkv and libllama, with the metadata keys and
/// tensor names of llama.cpp's converters for the family. The same description gives the same file
/// on every machine.
///
/// Weights are scaled to behave like those of a real model: the residual stream grows slowly,
/// logits have a deviation of about 3 and attention prefers some tokens to others. Norm weights are
/// around 1; Gemma's checkpoints store 1 less, its GGUF files do not. The last norm of a tied model
/// differs, so that the model does not repeat its input.
///
/// The defaults are those of a tiny `llama` for tests.
struct RandomModel {
  std::string architecture = "llama";  ///< A row of families.h.
  std::string name = "tiny";
  size_t layers = 2;
  size_t width = 64;
  size_t query_heads = 4;
  size_t kv_heads = 2;
  size_t head_dim = 16;  ///< Of queries and keys.
  size_t value_dim = 0;  ///< 0: `head_dim`, the only choice that libllama runs.
  size_t ffn_width = 96;
  size_t experts = 0;       ///< Of a layer; 0: none.
  size_t experts_used = 2;  ///< Of a token.
  size_t expert_width = 0;  ///< 0: `ffn_width`, the only choice of families without a key for it.
  size_t shared_expert_width = 0;  ///< Of the expert that computes all tokens; 0: none.
  size_t context = 4096;
  double norm_epsilon = 1e-5;

  double rope_base = 10000;
  double rope_base_local = 0;  ///< Of sliding-window layers; 0: the family's default.
  size_t rope_dim = 0;         ///< Rotated channels of a head; 0: all.
  std::optional<RopeStretch> rope_stretch = {};
  /// "linear", "yarn" or "longrope" (phi3: two sets of frequency factors, for contexts up to the
  /// original and beyond it); empty: not stretched.
  std::string rope_scaling = {};
  double rope_factor = 1;            ///< Of linear and yarn.
  size_t rope_original_context = 0;  ///< Of yarn and longrope, in tokens.

  size_t window = 0;  ///< Tokens that a sliding-window layer sees; 0: none has one.
  size_t window_pattern =
      0;  ///< Every so many layers one sees everything; 0: the family's default.
  double attention_softcap = 0;
  double final_softcap = 0;
  double attention_scale = 0;  ///< Of the softmax; 0: 1 / sqrt(head_dim).
  double embedding_scale = 0;  ///< Granite's; 0: not in the file.
  double residual_scale = 0;   ///< Likewise.
  double logit_scale = 0;      ///< Likewise.

  bool biases = false;             ///< Of all matrices in the layers, as some `llama` files have.
  ggml_type type = GGML_TYPE_F32;  ///< Of the matrices; norms and biases are always float32.
  bool tied = false;               ///< Unembed with the embedding table.
  /// The GGUF file whose tokenizer is copied, cut or filled up with unused tokens to `vocabulary`
  /// (0: as it is). Empty: no tokenizer, which libllama cannot load.
  std::string tokenizer = {};
  size_t vocabulary = 256;
  uint64_t seed = 1;

  /// Last changes, for models that are wrong in one point: to the metadata, and to every tensor
  /// (false leaves it out; its shape may change). With `edit_tensor`, all weights are in memory.
  std::function<void(gguf_context*)> edit_metadata = {};
  std::function<bool(RandomTensor&)> edit_tensor = {};

  /// Is told the share of the work done and the tensor at hand; false stops with Error
  /// (kInterrupted).
  using Progress = std::function<bool(double fraction, std::string_view tensor)>;

  /// Writes the file, block of rows by block of rows, with the threads of `parallel_for`; it
  /// appears whole or not at all. Throws Error: kInvalidArgument (the description contradicts
  /// itself), kInput (the tokenizer's file), kIo, kInterrupted.
  void write(const std::string& path, const Progress& progress = {}) const;

  /// Bytes of the tensors, and how many weights they are.
  struct Size {
    size_t bytes = 0;
    size_t weights = 0;
  };
  [[nodiscard]] Size size() const;
};

/// Types that weights can be written in, by the names of `ggml_type_name`.
std::vector<ggml_type> weight_types();

}  // namespace restkv
