#include "support/tiny_model.h"

#include <stdlib.h>

#include <cmath>
#include <cstdlib>
#include <memory>
#include <random>
#include <stdexcept>

namespace restkv::testing {
namespace {

using Gguf = std::unique_ptr<gguf_context, decltype(&gguf_free)>;

/// Everything the real model says about its tokenizer, and nothing else.
Gguf tokenizer_metadata() {
  const std::string path = test_model_path();
  Gguf source(gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = nullptr}), gguf_free);
  if (source == nullptr) throw std::runtime_error(path + " is not a GGUF file");
  std::vector<std::string> others;
  for (int64_t i = 0; i < gguf_get_n_kv(source.get()); ++i) {
    const std::string key = gguf_get_key(source.get(), i);
    if (!key.starts_with("tokenizer.")) others.push_back(key);
  }
  for (const std::string& key : others) gguf_remove_key(source.get(), key.c_str());
  return source;
}

/// Uniform numbers with the wanted standard deviation around `mean`; <random>'s distributions
/// differ between standard libraries.
std::vector<float> random_values(std::mt19937_64& random, size_t count, double mean,
                                 double deviation) {
  std::vector<float> values(count);
  for (float& v : values) {
    const double unit = static_cast<double>(random() >> 11U) * 0x1p-53;
    v = static_cast<float>(mean + deviation * std::sqrt(12.0) * (unit - 0.5));
  }
  return values;
}

/// The tensors of a file in ggml's form; their data live as long as this.
class Tensors {
 public:
  void add(gguf_context* gguf, const TinyTensor& source, ggml_type type) {
    const auto rows = static_cast<int64_t>(source.rows);
    const auto cols = static_cast<int64_t>(source.cols);
    ggml_tensor* tensor = rows == 1 ? ggml_new_tensor_1d(context_.get(), type, cols)
                                    : ggml_new_tensor_2d(context_.get(), type, cols, rows);
    ggml_set_name(tensor, source.name.c_str());
    auto& data = data_.emplace_back(ggml_nbytes(tensor));
    ggml_quantize_chunk(type, source.values.data(), data.data(), 0, rows, cols, nullptr);
    tensor->data = data.data();
    gguf_add_tensor(gguf, tensor);
  }

 private:
  static constexpr size_t kMaxTensors = 4096;
  std::unique_ptr<ggml_context, decltype(&ggml_free)> context_{
      ggml_init({.mem_size = kMaxTensors * ggml_tensor_overhead(),
                 .mem_buffer = nullptr,
                 .no_alloc = true}),
      ggml_free};
  std::vector<std::vector<char>> data_;
};

}  // namespace

void TinyModel::write(const std::string& path) const {
  const Gguf gguf(gguf_init_empty(), gguf_free);
  size_t tokens = vocabulary;
  if (tokenizer) {
    const Gguf source = tokenizer_metadata();
    gguf_set_kv(gguf.get(), source.get());
    const int64_t list = gguf_find_key(gguf.get(), "tokenizer.ggml.tokens");
    if (list < 0) throw std::runtime_error(test_model_path() + " has no list of tokens");
    tokens = gguf_get_arr_n(gguf.get(), list);
  }
  const auto set = [&](const char* key, size_t value) {
    gguf_set_val_u32(gguf.get(), key, static_cast<uint32_t>(value));
  };
  gguf_set_val_str(gguf.get(), "general.architecture", "llama");
  gguf_set_val_str(gguf.get(), "general.name", "tiny");
  set("general.quantization_version", GGML_QNT_VERSION);
  set("llama.vocab_size", tokens);
  set("llama.context_length", context);
  set("llama.block_count", layers);
  set("llama.embedding_length", width);
  set("llama.feed_forward_length", ffn_width);
  set("llama.attention.head_count", query_heads);
  set("llama.attention.head_count_kv", kv_heads);
  set("llama.attention.key_length", head_dim);
  set("llama.attention.value_length", head_dim);
  set("llama.rope.dimension_count", head_dim);
  gguf_set_val_f32(gguf.get(), "llama.rope.freq_base", 10000.0F);
  gguf_set_val_f32(gguf.get(), "llama.attention.layer_norm_rms_epsilon", 1e-5F);
  if (edit_metadata) edit_metadata(gguf.get());

  std::mt19937_64 random(seed);
  Tensors tensors;
  const auto add = [&](TinyTensor tensor, ggml_type stored) {
    if (!edit_tensor || edit_tensor(tensor)) tensors.add(gguf.get(), tensor, stored);
  };
  // Variance 1 / cols keeps the scale of the activations from layer to layer.
  const auto matrix = [&](const std::string& name, size_t rows, size_t cols) {
    const double deviation = 1.0 / std::sqrt(static_cast<double>(cols));
    add({name, rows, cols, random_values(random, rows * cols, 0.0, deviation)}, type);
  };
  const auto norm = [&](const std::string& name) {
    add({name, 1, width, random_values(random, width, 1.0, 0.1)}, GGML_TYPE_F32);
  };
  matrix("token_embd.weight", tokens, width);
  norm("output_norm.weight");
  if (!tied) matrix("output.weight", tokens, width);
  for (size_t i = 0; i < layers; ++i) {
    const std::string block = "blk." + std::to_string(i) + ".";
    norm(block + "attn_norm.weight");
    matrix(block + "attn_q.weight", query_heads * head_dim, width);
    matrix(block + "attn_k.weight", kv_heads * head_dim, width);
    matrix(block + "attn_v.weight", kv_heads * head_dim, width);
    matrix(block + "attn_output.weight", width, query_heads * head_dim);
    norm(block + "ffn_norm.weight");
    matrix(block + "ffn_gate.weight", ffn_width, width);
    matrix(block + "ffn_up.weight", ffn_width, width);
    matrix(block + "ffn_down.weight", width, ffn_width);
  }
  if (!gguf_write_to_file(gguf.get(), path.c_str(), false)) {
    throw std::runtime_error("cannot write " + path);
  }
}

std::string test_model_path() {
  const char* variable = std::getenv("RESTKV_MODEL");
  const bool given = variable != nullptr && *variable != '\0';
  const std::string path = given ? variable : RESTKV_TEST_MODEL;
  if (!std::filesystem::is_regular_file(path)) {
    throw std::runtime_error("the test model " + path +
                             " is missing; run script/bootstrap or set RESTKV_MODEL");
  }
  return path;
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "restkv-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot create " + pattern);
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace restkv::testing
