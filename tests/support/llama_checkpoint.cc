#include "support/llama_checkpoint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <stdexcept>
#include <vector>

#include "base/json.h"
#include "support/safetensors.h"
#include "support/tiny_model.h"

namespace restkv::testing {
namespace {

/// The keys of config.json; null counts as missing.
class Config {
 public:
  explicit Config(const std::filesystem::path& path)
      : path_(path), json_(read_json(path.string())) {}

  template <typename T>
  [[nodiscard]] T get(const char* key, std::optional<T> otherwise = std::nullopt) const {
    const Json* found = json_.find(key);
    if (found != nullptr && !found->is_null()) return found->get<T>();
    if (!otherwise) throw std::runtime_error(fmt::format("{}: no {}", path_.string(), key));
    return *otherwise;
  }
  [[nodiscard]] size_t count(const char* key, std::optional<size_t> otherwise = {}) const {
    return get<size_t>(key, otherwise);
  }

  /// Checks a key that is not written to GGUF: it must have the value of a plain Llama.
  void expect(const char* key, const Json& plain) const {
    const Json value = get<Json>(key, plain);
    if (value == plain) return;
    throw std::runtime_error(fmt::format("{}: {} is {}; the tests write {} only", path_.string(),
                                         key, value.dump(),
                                         plain.is_null() ? "models without it" : plain.dump()));
  }

 private:
  std::filesystem::path path_;
  Json json_;
};

TinyModel shape_of(const Config& config) {
  config.expect("model_type", "llama");
  config.expect("hidden_act", "silu");
  config.expect("attention_bias", false);
  config.expect("mlp_bias", false);
  config.expect("rope_scaling", nullptr);
  const auto rope = config.get<Json>("rope_parameters", Json::object());  // of newer versions
  if (rope.value("rope_type", "default") != "default") config.expect("rope_parameters", nullptr);
  TinyModel model;
  model.layers = config.count("num_hidden_layers");
  model.width = config.count("hidden_size");
  model.query_heads = config.count("num_attention_heads");
  model.kv_heads = config.count("num_key_value_heads", model.query_heads);
  model.head_dim = config.count("head_dim", model.width / model.query_heads);
  model.ffn_width = config.count("intermediate_size");
  model.vocabulary = config.count("vocab_size");
  model.context = config.count("max_position_embeddings");
  model.norm_epsilon = config.get<double>("rms_norm_eps");
  model.rope_base = rope.contains("rope_theta") ? rope["rope_theta"].get<double>()
                                                : config.get<double>("rope_theta");
  model.tied = config.get<bool>("tie_word_embeddings", false);
  return model;
}

/// GGUF stores the rotated rows of a head as neighbours, (0, d/2, 1, d/2 + 1, ...).
std::vector<float> interleave_heads(const std::vector<float>& values, size_t cols, size_t dim) {
  std::vector<float> result(values.size());
  for (size_t row = 0; row < values.size() / cols; ++row) {
    const size_t in_head = row % dim;
    const size_t source = row - in_head + in_head / 2 + (in_head % 2) * dim / 2;
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(source * cols), cols,
                result.begin() + static_cast<std::ptrdiff_t>(row * cols));
  }
  return result;
}

}  // namespace

std::string checkpoint_name(const std::string& gguf_name) {
  static const std::map<std::string, std::string> kParts = {
      {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
      {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
      {"attn_output", "self_attn.o_proj"}, {"ffn_norm", "post_attention_layernorm"},
      {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
      {"ffn_down", "mlp.down_proj"}};
  if (gguf_name == "token_embd.weight") return "model.embed_tokens.weight";
  if (gguf_name == "output_norm.weight") return "model.norm.weight";
  if (gguf_name == "output.weight") return "lm_head.weight";
  const size_t dot = gguf_name.find('.', 4);  // "blk.0.attn_q.weight"
  const std::string layer = gguf_name.substr(4, dot - 4);
  const std::string part = gguf_name.substr(dot + 1, gguf_name.rfind('.') - dot - 1);
  return "model.layers." + layer + "." + kParts.at(part) + ".weight";
}

void write_checkpoint_as_gguf(const std::filesystem::path& config,
                              const std::filesystem::path& weights, const std::string& gguf) {
  TinyModel model = shape_of(Config(config));
  auto tensors = read_safetensors(weights);
  const auto mismatch = [&](const std::string& tensor, const std::string& what) {
    return std::runtime_error(
        fmt::format("{} does not fit {}: {} {}", config.string(), weights.string(), tensor, what));
  };
  model.edit_tensor = [&](TinyTensor& tensor) {
    auto source = tensors.extract(checkpoint_name(tensor.name));
    if (source.empty()) throw mismatch(checkpoint_name(tensor.name), "is missing");
    const std::vector<size_t>& shape = source.mapped().shape;
    const auto expected =
        shape.size() == 1 ? std::vector{tensor.cols} : std::vector{tensor.rows, tensor.cols};
    if (shape != expected) {
      throw mismatch(source.key(), fmt::format("is {}, not {}", shape, expected));
    }
    const bool rotated = tensor.name.find("attn_q.") != std::string::npos ||
                         tensor.name.find("attn_k.") != std::string::npos;
    tensor.values = rotated ? interleave_heads(source.mapped().values, tensor.cols, model.head_dim)
                            : std::move(source.mapped().values);
    return true;
  };
  model.write(gguf);
  if (!tensors.empty()) throw mismatch(tensors.begin()->first, "has no place in the model");
}

}  // namespace restkv::testing
