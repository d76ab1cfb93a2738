#include "restkv/model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <set>

#include "attention/attention_precision.h"
#include "linear/linear_precision.h"
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

/// Metadata under the architecture's own prefix.
class Keys {
 public:
  Keys(const GgufFile& file, std::string prefix) : file_(file), prefix_(std::move(prefix) + ".") {}

  [[nodiscard]] std::string name(const char* suffix) const { return prefix_ + suffix; }
  [[nodiscard]] size_t required(const char* suffix, size_t limit) const {
    return bounded(file_, name(suffix), file_.integer(name(suffix)), limit);
  }
  [[nodiscard]] size_t optional(const char* suffix, size_t fallback, size_t limit) const {
    const auto value = file_.find_integer(name(suffix));
    return value ? bounded(file_, name(suffix), static_cast<size_t>(*value), limit) : fallback;
  }
  /// A finite number above zero.
  [[nodiscard]] double positive(const char* suffix, double fallback) const {
    const double value = file_.find_number(name(suffix)).value_or(fallback);
    if (!(value > 0 && std::isfinite(value))) {
      file_.fail(fmt::format("'{}' is {}; expected a positive number", name(suffix), value));
    }
    return value;
  }
  /// The same, or 0 for "none".
  [[nodiscard]] float cap(const char* suffix, double fallback) const {
    const double value = file_.find_number(name(suffix)).value_or(fallback);
    return value == 0 ? 0.0F : static_cast<float>(positive(suffix, fallback));
  }

 private:
  const GgufFile& file_;
  std::string prefix_;
};

void refuse_experts(const GgufFile& file, const Keys& keys) {
  const auto experts = file.find_integer(keys.name("expert_count")).value_or(0);
  if (experts > 0) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: mixture-of-experts models are not supported ('{}' is {})",
                            file.path(), keys.name("expert_count"), experts));
  }
}

void read_sizes(const GgufFile& file, const Keys& keys, ModelConfig& c) {
  c.layers = keys.required("block_count", kMaxLayers);
  c.width = keys.required("embedding_length", kMaxWidth);
  c.query_heads = keys.required("attention.head_count", kMaxHeads);
  c.kv_heads = keys.optional("attention.head_count_kv", c.query_heads, kMaxHeads);
  if (c.query_heads % c.kv_heads != 0) {
    file.fail(
        fmt::format("{} query heads cannot share {} KV heads evenly", c.query_heads, c.kv_heads));
  }
  c.key_dim = keys.optional("attention.key_length", c.width / c.query_heads, kMaxHeadDim);
  c.value_dim = keys.optional("attention.value_length", c.width / c.query_heads, kMaxHeadDim);
  if (c.key_dim == 0 || c.value_dim == 0) {
    file.fail(fmt::format("{} heads leave no channels in a width of {}", c.query_heads, c.width));
  }
  c.ffn_width = keys.required("feed_forward_length", kMaxWidth);
  c.context_length = keys.required("context_length", kMaxContext);
  const auto vocabulary = file.find_array_length("tokenizer.ggml.tokens");
  c.vocabulary = vocabulary ? *vocabulary : file.integer(keys.name("vocab_size"));
  bounded(file, "vocabulary size", c.vocabulary, 1U << 24U);
}

void read_scales(const GgufFile& file, const Keys& keys, const Architecture& architecture,
                 ModelConfig& c) {
  const std::string epsilon = keys.name("attention.layer_norm_rms_epsilon");
  c.norm_epsilon = static_cast<float>(file.number(epsilon));
  if (!(c.norm_epsilon >= 0 && std::isfinite(c.norm_epsilon))) {
    file.fail(fmt::format("'{}' is {}; expected a small positive number", epsilon, c.norm_epsilon));
  }
  if (architecture.scaled_embedding) {
    c.embedding_scale = std::sqrt(static_cast<float>(c.width));
  }
  const size_t scaled_by =
      c.layers == architecture.scale_by_width_layers ? c.width / c.query_heads : c.key_dim;
  c.attention_scale = static_cast<float>(
      keys.positive("attention.scale", 1.0 / std::sqrt(static_cast<double>(scaled_by))));
  c.attention_softcap = keys.cap("attn_logit_softcapping", architecture.attention_softcap);
  c.final_softcap = keys.cap("final_logit_softcapping", architecture.final_softcap);
}

/// Which of the layers have a sliding window: all, or all but every n-th as the architecture or the
/// file say, or a list of flags in the file.
void read_windows(const GgufFile& file, const Keys& keys, const Architecture& architecture,
                  ModelConfig& c) {
  c.windows.assign(c.layers, 0);
  const auto given = file.find_integer(keys.name("attention.sliding_window"));
  const size_t window = given ? static_cast<size_t>(*given) : architecture.window;
  if (architecture.windows == Windows::kNone || window == 0) return;
  const std::string pattern = keys.name("attention.sliding_window_pattern");
  std::vector<bool> flags;
  if (file.is_array(pattern)) {
    flags = file.flags(pattern);
    if (flags.size() != c.layers) {
      file.fail(fmt::format("'{}' has {} entries for {} layers", pattern, flags.size(), c.layers));
    }
  } else {
    const size_t period = architecture.windows == Windows::kAll
                              ? 0
                              : static_cast<size_t>(file.find_integer(pattern).value_or(
                                    static_cast<int64_t>(architecture.window_period)));
    for (size_t i = 0; i < c.layers; ++i) {
      flags.push_back(period == 0 || i % period + 1 < period);
    }
  }
  for (size_t i = 0; i < c.layers; ++i) c.windows[i] = flags[i] ? window : 0;
}

void read_rope(const GgufFile& file, const Keys& keys, const Architecture& architecture,
               ModelConfig& c) {
  RopeConfig& rope = c.rope;
  rope.dim = keys.optional("rope.dimension_count", c.key_dim, c.key_dim);
  if (rope.dim % 2 != 0) {
    file.fail(fmt::format("'{}' is {}; expected an even number", keys.name("rope.dimension_count"),
                          rope.dim));
  }
  rope.base = keys.positive("rope.freq_base", 10000.0);
  rope.original_context =
      keys.optional("rope.scaling.original_context_length", c.context_length, kMaxContext);
  rope.magnitude = keys.positive("rope.scaling.attn_factor", 1.0);
  const std::string scaling = file.find_string(keys.name("rope.scaling.type")).value_or("linear");
  if (scaling != "none") {
    // Files write 0 for "not stretched".
    const double factor = file.find_number(keys.name("rope.scaling.factor")).value_or(0);
    rope.factor = factor == 0 ? 1.0 : keys.positive("rope.scaling.factor", 1.0);
  }
  if (scaling == "yarn") {
    rope.scaling = RopeConfig::Scaling::kYarn;
    rope.beta_fast = keys.positive("rope.scaling.yarn_beta_fast", 32.0);
    rope.beta_slow = keys.positive("rope.scaling.yarn_beta_slow", 1.0);
    // Attention over more positions is made sharper (Peng et al. 2023, equation 22).
    rope.magnitude *= 1.0 + 0.1 * std::log(rope.factor);
  } else if (scaling != "none" && scaling != "linear" && scaling != "longrope") {
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("{}: RoPE scaling '{:.64}' is not supported; linear, yarn and longrope are",
                    file.path(), scaling));
  }
  c.window_rope = rope;
  if (architecture.window_rope_base > 0) {
    c.window_rope = {.dim = rope.dim,
                     .base = keys.positive("rope.freq_base_swa", architecture.window_rope_base)};
  }
}

ModelConfig read_config(const GgufFile& file, const Architecture& architecture) {
  ModelConfig c;
  c.architecture = architecture.name;
  c.name = file.find_string("general.name").value_or("");
  c.file_bytes = file.bytes().size();
  const Keys keys(file, c.architecture);
  refuse_experts(file, keys);
  read_sizes(file, keys, c);
  read_scales(file, keys, architecture, c);
  read_windows(file, keys, architecture, c);
  read_rope(file, keys, architecture, c);
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

/// Stretches RoPE as the user wants it.
void stretch(const GgufFile& file, const ModelOptions& options, bool own_window_rope,
             ModelConfig& c) {
  if (options.rope_scaling.empty()) return;
  RopeConfig& rope = c.rope;
  const double factor = options.rope_factor;
  const auto refuse = [](const std::string& what) {
    throw Error(ErrorCode::kInvalidArgument, what);
  };
  if (!(factor > 1 && factor <= 1024)) {
    refuse(fmt::format("the RoPE factor is {}; it must be above 1 and at most 1024", factor));
  }
  if (rope.factor != 1 || rope.scaling != RopeConfig::Scaling::kLinear) {
    refuse(
        fmt::format("{} stretches its context already; leave out the RoPE scaling", file.path()));
  }
  if (options.rope_scaling == "linear") {
    rope.factor = factor;
  } else if (options.rope_scaling == "ntk") {
    const auto dim = static_cast<double>(rope.dim);
    if (rope.dim <= 2) refuse(fmt::format("ntk needs more than {} rotated channels", rope.dim));
    rope.base *= std::pow(factor, dim / (dim - 2));
  } else if (options.rope_scaling == "yarn") {
    rope.scaling = RopeConfig::Scaling::kYarn;
    rope.factor = factor;
    rope.original_context = c.context_length;
    rope.magnitude *= 1.0 + 0.1 * std::log(factor);
  } else {
    refuse(fmt::format("there is no RoPE scaling '{}'; known: linear, ntk, yarn",
                       options.rope_scaling));
  }
  if (!own_window_rope) c.window_rope = rope;
  c.context_length = static_cast<size_t>(static_cast<double>(c.context_length) * factor);
}

/// Reads matrices, with their biases, and vectors of one model.
class WeightReader {
 public:
  explicit WeightReader(const GgufFile& file) : file_(file) {}

  /// Of tensors named `names` + ".weight" [rows, cols], stacked. Biases may be there or not.
  Linear linear(std::span<const std::string> names, std::span<const size_t> rows, size_t cols) {
    std::vector<Weight> parts;
    std::vector<float> bias;
    for (size_t i = 0; i < names.size(); ++i) {
      parts.push_back(matrix(names[i] + ".weight", rows[i], cols));
      const std::string bias_name = names[i] + ".bias";
      if (!file_.has_tensor(bias_name)) continue;
      bias.resize(
          std::accumulate(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(i), 0UL));
      const std::vector<float> part = read_vector(file_, bias_name, rows[i]);
      bias.insert(bias.end(), part.begin(), part.end());
    }
    if (!bias.empty()) bias.resize(std::accumulate(rows.begin(), rows.end(), 0UL));
    return Linear(std::move(parts), std::move(bias));
  }
  Linear linear(const std::string& name, size_t rows, size_t cols) {
    return linear({&name, 1}, {&rows, 1}, cols);
  }
  /// The first of two forms that files have: one fused tensor, or the parts.
  Linear fused_or_parts(const std::string& fused, std::span<const std::string> names,
                        std::span<const size_t> rows, size_t cols) {
    if (!file_.has_tensor(fused + ".weight")) return linear(names, rows, cols);
    return linear(fused, std::accumulate(rows.begin(), rows.end(), 0UL), cols);
  }
  std::vector<float> norm(const std::string& name, size_t size) {
    return read_vector(file_, name + ".weight", size);
  }

  /// Of the matrices read so far: "Q4_1, F32".
  [[nodiscard]] std::string types() const { return fmt::format("{}", fmt::join(types_, ", ")); }

 private:
  Weight matrix(const std::string& name, size_t rows, size_t cols) {
    const Weight weight = file_.tensor(name, rows, cols);
    types_.insert(ggml_type_name(weight.type));
    return weight;
  }

  const GgufFile& file_;
  std::set<std::string> types_;
};

void read_layer(WeightReader& reader, const ModelConfig& c, const Architecture& architecture,
                size_t index, LayerWeights& layer) {
  const auto name = [&](const char* part) { return fmt::format("blk.{}.{}", index, part); };
  layer.attention_norm = reader.norm(name("attn_norm"), c.width);
  layer.qkv = reader.fused_or_parts(
      name("attn_qkv"), std::array{name("attn_q"), name("attn_k"), name("attn_v")},
      std::array{c.query_heads * c.key_dim, c.kv_heads * c.key_dim, c.kv_heads * c.value_dim},
      c.width);
  if (architecture.qk_norms) {
    layer.query_norm = reader.norm(name("attn_q_norm"), c.key_dim);
    layer.key_norm = reader.norm(name("attn_k_norm"), c.key_dim);
  }
  layer.output = reader.linear(name("attn_output"), c.width, c.query_heads * c.value_dim);
  layer.ffn_norm = reader.norm(name("ffn_norm"), c.width);
  if (architecture.post_norms) {
    layer.attention_post_norm = reader.norm(name("post_attention_norm"), c.width);
    layer.ffn_post_norm = reader.norm(name("post_ffw_norm"), c.width);
  }
  layer.gate_up = architecture.fused_gate
                      ? reader.linear(name("ffn_up"), 2 * c.ffn_width, c.width)
                      : reader.linear(std::array{name("ffn_gate"), name("ffn_up")},
                                      std::array{c.ffn_width, c.ffn_width}, c.width);
  layer.down = reader.linear(name("ffn_down"), c.width, c.ffn_width);
}

/// Divisors of the RoPE frequencies (Llama 3.1, LongRoPE), or none.
std::vector<float> read_rope_factors(const GgufFile& file, const ModelConfig& c) {
  const bool stretched = c.context_length > c.rope.original_context;
  for (const char* name : {"rope_freqs.weight",
                           stretched ? "rope_factors_long.weight" : "rope_factors_short.weight"}) {
    if (!file.has_tensor(name)) continue;
    std::vector<float> factors = read_vector(file, name, c.rope.dim / 2);
    for (const float f : factors) {
      if (!(f > 0)) file.fail(fmt::format("tensor '{}' divides a frequency by {}", name, f));
    }
    return factors;
  }
  return {};
}

bool can_be_packed(const LayerWeights& layer) {
  return layer.qkv.can_be_packed() && layer.output.can_be_packed() &&
         layer.gate_up.can_be_packed() && layer.down.can_be_packed();
}

}  // namespace

size_t ModelConfig::global_layers() const {
  return static_cast<size_t>(std::count(windows.begin(), windows.end(), 0UL));
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
  try {
    w.architecture = &find_architecture(file.string("general.architecture"));
  } catch (const Error& e) {
    throw Error(e.code(), fmt::format("{}: {}", path, e.what()));
  }
  config_ = read_config(file, *w.architecture);
  w.rope_factors = read_rope_factors(file, config_);
  stretch(file, options, w.architecture->window_rope_base > 0, config_);
  const ModelConfig& c = config_;
  w.token_embedding = file.tensor("token_embd.weight", c.vocabulary, c.width);
  w.output_norm = read_vector(file, "output_norm.weight", c.width);
  w.unembedding = file.has_tensor("output.weight")
                      ? WeightReader(file).linear("output", c.vocabulary, c.width)
                      : Linear({w.token_embedding});
  w.layers = std::vector<LayerWeights>(c.layers);
  WeightReader reader(file);
  for (size_t i = 0; i < c.layers; ++i) {
    read_layer(reader, c, *w.architecture, i, w.layers[i]);
  }
  config_.weight_types = reader.types();
  if (w.linear == LinearPrecision::kInt8 &&
      std::all_of(w.layers.begin(), w.layers.end(), can_be_packed)) {
    w.dense_from_rows = kInt8FromRows;
  }
}

Model::~Model() = default;

const std::string& Model::path() const { return weights_->file.path(); }

LinearPrecision Model::linear_precision() const { return weights_->linear; }

AttentionPrecision Model::attention_precision() const { return weights_->attention; }

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
