#include "restkv/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <string>
#include <utility>

#include "attention/attention_precision.h"
#include "linear/linear_precision.h"
#include "model/fingerprint.h"
#include "model/model_config.h"
#include "model/narrow.h"
#include "model/weight_reader.h"
#include "model/weights.h"
#include "restkv/aligned.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// The networks of a layer's experts.
ExpertWeights read_experts(WeightReader& reader, const ModelConfig& c,
                           const Architecture& architecture,
                           const std::function<std::string(const char*)>& name) {
  const ExpertsConfig& e = c.experts;
  if (!reader.has(name("ffn_down_exps") + ".weight") &&
      reader.has(name("ffn_down.0") + ".weight")) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: has a tensor for each expert ('{}'), as files of early 2024; "
                            "convert the model again, or download a newer file",
                            reader.file().path(), name("ffn_down.0.weight")));
  }
  ExpertWeights experts;
  experts.router = reader.finite_linear(name("ffn_gate_inp"), e.count, c.width);
  const std::string fused = name("ffn_gate_up_exps");
  experts.gate_up =
      reader.has(fused + ".weight")
          ? reader.experts(std::array{fused}, std::array{2 * e.width}, c.width, e.count)
          : reader.experts(std::array{name("ffn_gate_exps"), name("ffn_up_exps")},
                           std::array{e.width, e.width}, c.width, e.count);
  experts.down =
      reader.experts(std::array{name("ffn_down_exps")}, std::array{c.width}, e.width, e.count);
  if (architecture.shared_expert == SharedExpert::kGated) {
    experts.shared_gate = reader.norm(name("ffn_gate_inp_shexp"), c.width);
  }
  return experts;
}

void read_layer(WeightReader& reader, const ModelConfig& c, const Architecture& architecture,
                size_t index, LayerWeights& layer) {
  const auto name = [&](const char* part) { return fmt::format("blk.{}.{}", index, part); };
  if (architecture.pre_norms) layer.attention_norm = reader.norm(name("attn_norm"), c.width);
  layer.qkv = reader.fused_or_parts(
      name("attn_qkv"), std::array{name("attn_q"), name("attn_k"), name("attn_v")},
      std::array{c.query_heads * c.key_dim, c.kv_heads * c.key_dim, c.kv_heads * c.value_dim},
      c.width);
  if (architecture.qk_norms != QkNorms::kNone) {
    const bool rows = architecture.qk_norms == QkNorms::kRows;
    layer.query_norm =
        reader.norm(name("attn_q_norm"), rows ? c.query_heads * c.key_dim : c.key_dim);
    layer.key_norm = reader.norm(name("attn_k_norm"), rows ? c.kv_heads * c.key_dim : c.key_dim);
  }
  layer.output = reader.linear(name("attn_output"), c.width, c.query_heads * c.value_dim);
  if (architecture.sinks) layer.sink_logits = reader.norm(name("attn_sinks"), c.query_heads);
  if (architecture.pre_norms) {
    layer.ffn_norm = reader.norm(name(architecture.ffn_norm.data()), c.width);
  }
  if (architecture.post_norms) {
    layer.attention_post_norm = reader.norm(name("post_attention_norm"), c.width);
    layer.ffn_post_norm = reader.norm(name("post_ffw_norm"), c.width);
  }
  if (c.experts.count > 0) layer.experts = read_experts(reader, c, architecture, name);
  if (c.ffn_width == 0) return;
  const std::string suffix = c.experts.count > 0 ? "_shexp" : "";
  layer.gate_up =
      architecture.fused_gate
          ? reader.linear(name("ffn_up"), 2 * c.ffn_width, c.width)
          : reader.linear(std::array{name("ffn_gate") + suffix, name("ffn_up") + suffix},
                          std::array{c.ffn_width, c.ffn_width}, c.width);
  layer.down = reader.linear(name("ffn_down") + suffix, c.width, c.ffn_width);
}

/// Divisors of the RoPE frequencies (Llama 3.1, LongRoPE), or none.
std::vector<float> read_rope_factors(WeightReader& reader, const ModelConfig& c) {
  const auto read = [&](const std::string& name) {
    std::vector<float> factors = reader.vector(name, c.rope.dim / 2);
    for (const float f : factors) {
      if (!(f > 0)) {
        reader.file().fail(fmt::format("tensor '{}' divides a frequency by {}", name, f));
      }
    }
    return factors;
  };
  constexpr const char* kAnywhere = "rope_freqs.weight";
  if (reader.has(kAnywhere)) return read(kAnywhere);
  std::string used = "rope_factors_short.weight";
  std::string other = "rope_factors_long.weight";
  if (c.context_length > c.rope.original_context) std::swap(used, other);
  const bool longrope =
      reader.file().find_string(c.architecture + ".rope.scaling.type") == "longrope";
  if (!longrope && !reader.has(used) && !reader.has(other)) return {};
  if (reader.has(other)) read(other);
  return read(used);
}

bool can_be_packed(const LayerWeights& layer) {
  bool all = true;
  const auto check = [&](const Linear& matrix) { all = all && matrix.can_be_packed(); };
  for (const Linear LayerWeights::*matrix :
       {&LayerWeights::qkv, &LayerWeights::output, &LayerWeights::gate_up, &LayerWeights::down}) {
    check(layer.*matrix);
  }
  if (layer.experts) {
    check(layer.experts->gate_up.front());
    check(layer.experts->down.front());
  }
  return all;
}

}  // namespace

size_t ModelConfig::global_layers() const {
  return static_cast<size_t>(std::count(windows.begin(), windows.end(), 0UL));
}

size_t ModelConfig::global_layers_before(size_t layer) const {
  return static_cast<size_t>(
      std::count(windows.begin(), windows.begin() + static_cast<std::ptrdiff_t>(layer), 0UL));
}

CacheShape ModelConfig::cache_shape() const {
  return {.layers = global_layers(),
          .window_layers = layers - global_layers(),
          .kv_heads = kv_heads,
          .query_heads = query_heads,
          .width = width,
          .model = fingerprint};
}

size_t ModelConfig::kv_bytes(size_t tokens, size_t kept) const {
  size_t rows = 0;
  for (const size_t window : windows) rows += std::min(tokens, window > 0 ? window : kept);
  return rows * kv_heads * (key_dim + value_dim) * 2;
}

Model::Model(const std::string& path, const ModelOptions& options)
    : weights_(std::make_unique<ModelWeights>(path)) {
  const GgufFile& file = weights_->file;
  ModelWeights& w = *weights_;
  require_support(options.linear);
  w.linear = options.linear;
  require_support(options.attention);
  w.attention = options.attention;
  w.architecture = &read_architecture(file);
  config_ = read_config(file, *w.architecture);
  WeightReader reader(file);
  w.rope_factors = read_rope_factors(reader, config_);
  stretch_context(file, *w.architecture, options, config_);
  const ModelConfig& c = config_;
  w.token_embedding = reader.table("token_embd.weight", c.vocabulary, c.width);
  w.output_norm = reader.norm("output_norm", c.width);
  w.lm_head = reader.has("output.weight")
                  ? reader.linear("output", c.vocabulary, c.width)
                  : Linear({w.token_embedding}, reader.bias("output", c.vocabulary));
  w.layers = std::vector<LayerWeights>(c.layers);
  for (size_t i = 0; i < c.layers; ++i) {
    read_layer(reader, c, *w.architecture, i, w.layers[i]);
  }
  reader.refuse_what_was_not_read(c.architecture, c.layers);
  config_.weight_types = reader.types();
  config_.weights = reader.weights();
  config_.active_weights =
      c.weights - 3 * c.layers * (c.experts.count - c.experts.used) * c.experts.width * c.width;
  if (w.linear == LinearPrecision::kInt8 &&
      std::all_of(w.layers.begin(), w.layers.end(), can_be_packed)) {
    w.prefill_gemm_min_rows = kInt8GemmMinRows;
  }
  config_.fingerprint = fingerprint(description(), file.parts());
  if (options.communicator != nullptr) narrow(w, config_, *options.communicator);
}

Model::~Model() = default;

const std::string& Model::path() const { return weights_->file.path(); }

std::string Model::description() const {
  const ModelConfig& c = config_;
  const auto rope = [](const RopeConfig& r) {
    return fmt::format("RoPE {} x {} {} {}", r.base, r.factor,
                       r.scaling == RopeConfig::Scaling::kYarn ? "yarn" : "linear", r.magnitude);
  };
  std::string experts;
  if (c.experts.count > 0) {
    experts = fmt::format("{} of {} experts, ", c.experts.used, c.experts.count);
  }
  return fmt::format(
      "{} \"{}\", {} layers, {} query heads, {} KV heads of {} and {}, {} tokens, "
      "{}{}, {}, {} bytes",
      c.architecture, c.name, c.layers, c.query_heads, c.kv_heads, c.key_dim, c.value_dim,
      c.vocabulary, experts, rope(c.rope), rope(c.window_rope), c.file_bytes);
}

LinearPrecision Model::linear_precision() const { return weights_->linear; }

AttentionPrecision Model::attention_precision() const { return weights_->attention; }

const OutputFactor& Model::output_factor(size_t layer) const {
  const LayerWeights& w = weights_->layers.at(layer);
  std::call_once(w.output_factor_made, [&] {
    AlignedVector<float> storage;
    w.output_factor =
        OutputFactor(w.output.dequantize(storage), config_.query_heads, config_.value_dim);
  });
  return w.output_factor;
}

}  // namespace restkv
