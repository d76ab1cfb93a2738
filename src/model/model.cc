#include "restkv/model.h"

#include <fmt/format.h>

#include <cmath>
#include <set>

#include "model/weights.h"
#include "restkv/aligned.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Upper bounds far above any real model: a hostile file must not make us allocate without limit.
constexpr size_t kMaxLayers = 4096;
constexpr size_t kMaxHeads = 4096;
constexpr size_t kMaxHeadDim = 4096;
constexpr size_t kMaxWidth = 1U << 20U;
constexpr size_t kMaxContext = 1U << 30U;

size_t bounded(const GgufFile& file, const std::string& key, size_t value, size_t limit) {
  if (value < 1 || value > limit) {
    file.fail(fmt::format("'{}' is {}; expected 1 to {}", key, value, limit));
  }
  return value;
}

ModelConfig read_config(const GgufFile& file) {
  ModelConfig c;
  c.architecture = file.string("general.architecture");
  c.name = file.find_string("general.name").value_or("");
  c.file_bytes = file.file_bytes();
  const auto key = [&](const char* suffix) { return c.architecture + "." + suffix; };
  const auto required = [&](const char* suffix, size_t limit) {
    return bounded(file, key(suffix), file.integer(key(suffix)), limit);
  };
  const auto optional = [&](const char* suffix, size_t fallback, size_t limit) {
    const auto value = file.find_integer(key(suffix));
    return value ? bounded(file, key(suffix), static_cast<size_t>(*value), limit) : fallback;
  };

  if (file.find_integer(key("expert_count")).value_or(0) > 0) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: mixture-of-experts models are not supported ('{}' is {})",
                            file.path(), key("expert_count"), file.integer(key("expert_count"))));
  }
  c.layers = required("block_count", kMaxLayers);
  c.width = required("embedding_length", kMaxWidth);
  c.query_heads = required("attention.head_count", kMaxHeads);
  c.kv_heads = optional("attention.head_count_kv", c.query_heads, kMaxHeads);
  if (c.query_heads % c.kv_heads != 0) {
    file.fail(
        fmt::format("{} query heads cannot share {} KV heads evenly", c.query_heads, c.kv_heads));
  }
  c.key_dim = optional("attention.key_length", c.width / c.query_heads, kMaxHeadDim);
  c.value_dim = optional("attention.value_length", c.width / c.query_heads, kMaxHeadDim);
  if (c.key_dim == 0 || c.value_dim == 0 || c.key_dim != c.value_dim) {
    file.fail(fmt::format("heads of {} key and {} value channels are not supported", c.key_dim,
                          c.value_dim));
  }
  c.ffn_width = required("feed_forward_length", kMaxWidth);
  c.context_length = required("context_length", kMaxContext);
  c.norm_epsilon = static_cast<float>(file.number(key("attention.layer_norm_rms_epsilon")));
  if (!(c.norm_epsilon >= 0 && std::isfinite(c.norm_epsilon))) {
    file.fail(fmt::format("'{}' is {}; expected a small positive number",
                          key("attention.layer_norm_rms_epsilon"), c.norm_epsilon));
  }
  c.attention_scale =
      static_cast<float>(file.find_number(key("attention.scale"))
                             .value_or(1.0 / std::sqrt(static_cast<double>(c.key_dim))));
  if (!std::isfinite(c.attention_scale)) {
    file.fail(fmt::format("'{}' is {}", key("attention.scale"), c.attention_scale));
  }
  c.rope_dim = optional("rope.dimension_count", c.key_dim, c.key_dim);
  if (c.rope_dim % 2 != 0) file.fail(fmt::format("'{}' is odd", key("rope.dimension_count")));
  c.rope_base = file.find_number(key("rope.freq_base")).value_or(10000.0);
  if (!(c.rope_base > 0 && std::isfinite(c.rope_base))) {
    file.fail(
        fmt::format("'{}' is {}; expected a positive number", key("rope.freq_base"), c.rope_base));
  }
  const std::string scaling = file.find_string(key("rope.scaling.type")).value_or("none");
  const double factor = file.find_number(key("rope.scaling.factor")).value_or(1.0);
  if (scaling == "linear" && factor > 0) {
    c.rope_scale = 1.0 / factor;
  } else if (scaling != "none") {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: RoPE scaling '{}' with factor {} is not supported", file.path(),
                            scaling, factor));
  }
  if (const auto window = file.find_integer(key("attention.sliding_window")); window.value_or(0)) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: sliding-window attention ('{}' is {}) is not supported",
                            file.path(), key("attention.sliding_window"), *window));
  }
  const auto vocabulary = file.find_array_length("tokenizer.ggml.tokens");
  c.vocabulary = vocabulary ? *vocabulary : file.integer(key("vocab_size"));
  bounded(file, "vocabulary size", c.vocabulary, 1U << 24U);
  return c;
}

std::vector<float> read_vector(const GgufFile& file, const std::string& name, size_t size) {
  std::vector<float> values(size);
  dequantize_row(file.tensor(name, 1, size), 0, values.data());
  for (const float v : values) {
    if (!std::isfinite(v)) file.fail(fmt::format("tensor '{}' holds NaN or infinity", name));
  }
  return values;
}

}  // namespace

Model::Model(const std::string& path) : weights_(std::make_unique<ModelWeights>(path)) {
  const GgufFile& file = weights_->file;
  const std::string architecture = file.string("general.architecture");
  try {
    weights_->architecture = &find_architecture(architecture);
  } catch (const Error& e) {
    throw Error(e.code(), fmt::format("{}: {}", path, e.what()));
  }
  config_ = read_config(file);
  const ModelConfig& c = config_;
  ModelWeights& w = *weights_;
  w.token_embedding = file.tensor("token_embd.weight", c.vocabulary, c.width);
  w.output_norm = read_vector(file, "output_norm.weight", c.width);
  w.unembedding =
      Linear({file.has_tensor("output.weight") ? file.tensor("output.weight", c.vocabulary, c.width)
                                               : w.token_embedding});
  if (file.has_tensor("rope_freqs.weight")) {
    w.rope_factors = read_vector(file, "rope_freqs.weight", c.rope_dim / 2);
  }
  w.layers = std::vector<LayerWeights>(c.layers);
  std::set<std::string> types;
  for (size_t i = 0; i < c.layers; ++i) {
    LayerWeights& layer = w.layers[i];
    const auto name = [&](const char* part) { return fmt::format("blk.{}.{}.weight", i, part); };
    const auto matrix = [&](const char* part, size_t rows, size_t cols) {
      const Weight weight = file.tensor(name(part), rows, cols);
      types.insert(ggml_type_name(weight.type));
      return weight;
    };
    layer.attention_norm = read_vector(file, name("attn_norm"), c.width);
    layer.qkv = Linear({matrix("attn_q", c.query_heads * c.key_dim, c.width),
                        matrix("attn_k", c.kv_heads * c.key_dim, c.width),
                        matrix("attn_v", c.kv_heads * c.value_dim, c.width)});
    layer.output = Linear({matrix("attn_output", c.width, c.query_heads * c.value_dim)});
    layer.ffn_norm = read_vector(file, name("ffn_norm"), c.width);
    layer.gate_up =
        Linear({matrix("ffn_gate", c.ffn_width, c.width), matrix("ffn_up", c.ffn_width, c.width)});
    layer.down = Linear({matrix("ffn_down", c.width, c.ffn_width)});
  }
  for (const std::string& type : types) {
    config_.weight_types += (config_.weight_types.empty() ? "" : ", ") + type;
  }
}

Model::~Model() = default;

const std::string& Model::path() const { return weights_->file.path(); }

const OutputFactor& Model::output_factor(size_t layer) const {
  const LayerWeights& w = weights_->layers.at(layer);
  std::call_once(w.output_factor_made, [&] {
    AlignedVector<float> storage;
    w.output_factor =
        OutputFactor(w.output.densify(storage), config_.query_heads, config_.value_dim);
  });
  return w.output_factor;
}

}  // namespace restkv
