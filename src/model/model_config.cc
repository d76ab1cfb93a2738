#include "model/model_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <string>
#include <vector>

#include "model/metadata.h"
#include "model/missing_features.h"
#include "restkv/error.h"

namespace restkv {
namespace {

void read_sizes(const GgufFile& file, const Metadata& metadata, ModelConfig& c) {
  c.layers = metadata.integer(".block_count");
  c.width = metadata.integer(".embedding_length");
  const auto for_all_layers = [&](const char* suffix) {
    const auto value = metadata.find_for_all_layers(suffix, c.layers);
    return value ? *value : metadata.integer(suffix);  // which says that it is missing
  };
  c.query_heads = for_all_layers(".attention.head_count");
  c.kv_heads =
      metadata.find_for_all_layers(".attention.head_count_kv", c.layers).value_or(c.query_heads);
  if (c.query_heads % c.kv_heads != 0) {
    file.fail(
        fmt::format("{} query heads cannot share {} KV heads evenly", c.query_heads, c.kv_heads));
  }
  c.key_dim = metadata.integer(".attention.key_length", c.width / c.query_heads);
  c.value_dim = metadata.integer(".attention.value_length", c.width / c.query_heads);
  if (c.key_dim == 0 || c.value_dim == 0) {
    file.fail(fmt::format("{} heads leave no channels in a width of {}", c.query_heads, c.width));
  }
  c.ffn_width = for_all_layers(".feed_forward_length");
  c.context_length = metadata.integer(".context_length");
  const auto vocabulary = file.find_array_length("tokenizer.ggml.tokens");
  c.vocabulary = vocabulary ? *vocabulary : metadata.integer(".vocab_size");
  constexpr size_t kMaxVocabulary = 1U << 24U;
  if (c.vocabulary < 1 || c.vocabulary > kMaxVocabulary) {
    file.fail(fmt::format("'tokenizer.ggml.tokens' has {} entries; expected 1 to {}", c.vocabulary,
                          kMaxVocabulary));
  }
}

void read_experts(const Metadata& metadata, const Architecture& architecture, ModelConfig& c) {
  constexpr const char* kCount = ".expert_count";
  constexpr const char* kUsed = ".expert_used_count";
  ExpertsConfig& experts = c.experts;
  experts.count = metadata.integer(kCount, 0);
  experts.used = metadata.find_for_all_layers(kUsed, c.layers).value_or(0);
  if (experts.count > 0 && architecture.experts == Experts::kNone) {
    metadata.refuse_as_unsupported(kCount, fmt::format("{}", experts.count), "0",
                                   "mixtures of experts in models of this family");
  }
  const bool needed = architecture.experts == Experts::kAlways;
  if (experts.count == 0 && needed) metadata.refuse(kCount, "0", "the number of experts");
  const size_t least = experts.count > 0 ? 1 : 0;
  if (experts.used < least || experts.used > experts.count) {
    metadata.refuse(
        kUsed, fmt::format("{}", experts.used),
        fmt::format("{} to {}, which is '{}'", least, experts.count, metadata.key(kCount)));
  }
  if (experts.count == 0) return;
  experts.normalised = architecture.normalised_experts;
  if (const auto normalised = metadata.find_flag(".expert_weights_norm");
      normalised && *normalised != experts.normalised) {
    metadata.refuse_as_unsupported(".expert_weights_norm", *normalised ? "true" : "false",
                                   experts.normalised ? "true" : "false",
                                   "experts that are weighed in another way");
  }
  experts.scale = static_cast<float>(metadata.number_unless_zero(".expert_weights_scale", 1.0));
  constexpr const char* kSharedWidth = ".expert_shared_feed_forward_length";
  if (architecture.shared_expert != SharedExpert::kNone) {
    const size_t usual = architecture.shared_expert == SharedExpert::kGated ? c.ffn_width : 0;
    experts.shared_width = metadata.integer(kSharedWidth, usual);
  }
  experts.width =
      architecture.own_expert_width ? metadata.integer(".expert_feed_forward_length") : c.ffn_width;
  c.ffn_width = experts.shared_width;
}

/// Numbers that embeddings, residuals and logits are multiplied with or divided by.
void read_multipliers(const Metadata& metadata, const Architecture& architecture, ModelConfig& c) {
  const auto read = [&](const char* suffix, const char* what) {
    const double value = metadata.number_unless_zero(suffix, 1.0);
    if (value != 1 && !architecture.multipliers) {
      metadata.refuse_as_unsupported(suffix, fmt::format("{}", static_cast<float>(value)), "0 or 1",
                                     what);
    }
    return static_cast<float>(value);
  };
  if (architecture.multipliers) (void)metadata.number(".logit_scale");  // must be there
  c.logit_divisor = read(".logit_scale", "scaled logits");
  c.residual_scale = read(".residual_scale", "scaled residuals");
  c.embedding_scale *= read(".embedding_scale", "scaled embeddings");
  if (architecture.multipliers && !metadata.find_flag(".rope.scaling.finetuned").value_or(true)) {
    metadata.refuse_as_unsupported(".rope.scaling.finetuned", "false", "true",
                                   "layers without RoPE");
  }
}

void read_scales(const Metadata& metadata, const Architecture& architecture, ModelConfig& c) {
  c.norm_epsilon = static_cast<float>(metadata.number(".attention.layer_norm_rms_epsilon"));
  if (architecture.scaled_embedding) {
    c.embedding_scale = std::sqrt(static_cast<float>(c.width));
  }
  read_multipliers(metadata, architecture, c);
  const size_t scaled_by =
      c.layers == architecture.scale_by_width_layers ? c.width / c.query_heads : c.key_dim;
  c.attention_scale = static_cast<float>(metadata.number_unless_zero(
      ".attention.scale", 1.0 / std::sqrt(static_cast<double>(scaled_by))));
  c.attention_softcap = static_cast<float>(
      metadata.number(".attn_logit_softcapping", architecture.attention_softcap));
  c.final_softcap =
      static_cast<float>(metadata.number(".final_logit_softcapping", architecture.final_softcap));
}

/// Reads the sliding windows: in all layers, in all but every n-th by the architecture or the file,
/// or by a list of flags in the file.
void read_windows(const Metadata& metadata, const Architecture& architecture, ModelConfig& c) {
  c.windows.assign(c.layers, 0);
  if (architecture.windows == Windows::kNone) return;
  const size_t window = metadata.integer(".attention.sliding_window", architecture.window);
  if (window == 0) return;
  constexpr const char* kPattern = ".attention.sliding_window_pattern";
  if (const auto flags = metadata.find_list(kPattern, c.layers)) {
    for (size_t i = 0; i < c.layers; ++i) c.windows[i] = (*flags)[i] != 0 ? window : 0;
  } else {
    const size_t period = metadata.integer(kPattern, architecture.window_period);
    for (size_t i = 0; i < c.layers; ++i) {
      c.windows[i] = period == 0 || i % period + 1 < period ? window : 0;
    }
  }
}

RopeConfig::Scaling read_scaling(const GgufFile& file, const std::string& key,
                                 const std::string& name) {
  if (name == "yarn") return RopeConfig::Scaling::kYarn;
  if (name == "none" || name == "linear" || name == "longrope") return RopeConfig::Scaling::kLinear;
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: '{}' is '{:.64}'; none, linear, yarn and longrope are supported",
                          file.path(), key, name));
}

void read_rope(const GgufFile& file, const Metadata& metadata, const Architecture& architecture,
               ModelConfig& c) {
  RopeConfig& rope = c.rope;
  c.still_period = architecture.still_period;
  constexpr const char* kDimension = ".rope.dimension_count";
  rope.dim = metadata.integer(kDimension, c.key_dim);
  if (rope.dim % 2 != 0 || rope.dim > c.key_dim) {
    metadata.refuse(kDimension, fmt::format("{}", rope.dim),
                    fmt::format("an even number up to {}", c.key_dim));
  }
  rope.base = metadata.number(".rope.freq_base", 10000.0);
  rope.original_context =
      metadata.integer(".rope.scaling.original_context_length", c.context_length);
  const std::string type = metadata.key(".rope.scaling.type");
  const std::string scaling = file.find_string(type).value_or("linear");
  rope.scaling = read_scaling(file, type, scaling);
  const char* factor =
      metadata.has(".rope.scaling.factor") ? ".rope.scaling.factor" : ".rope.scale_linear";
  if (scaling != "none") rope.factor = metadata.number_unless_zero(factor, 1.0);
  double sharper = 1;
  if (rope.scaling == RopeConfig::Scaling::kYarn) {
    rope.beta_fast = metadata.number(".rope.scaling.yarn_beta_fast", 32.0);
    rope.beta_slow = metadata.number(".rope.scaling.yarn_beta_slow", 1.0);
    // Attention over more positions is made sharper (Peng et al. 2023, equation 22).
    sharper += 0.1 * std::log(rope.factor);
  }
  constexpr const char* kYarnFactor = ".rope.scaling.yarn_attn_factor";
  const double yarn_factor = metadata.number(kYarnFactor, 1.0);
  if (yarn_factor != 1 && std::abs(yarn_factor - sharper) > 1e-4) {
    metadata.refuse(kYarnFactor, fmt::format("{}", static_cast<float>(yarn_factor)),
                    sharper == 1 ? "1" : fmt::format("1 or {:.5g}", sharper));
  }
  const double magnitude = metadata.number(".rope.scaling.attn_factor", 1.0);
  rope.magnitude = magnitude * sharper;
  c.window_rope = rope;
  if (architecture.window_rope_base > 0) {
    c.window_rope = {
        .dim = rope.dim, .base = architecture.window_rope_base, .magnitude = magnitude};
  }
  if (architecture.plain_window_rope) c.window_rope = {.dim = rope.dim, .base = rope.base};
  c.window_rope.base = metadata.number(".rope.freq_base_swa", c.window_rope.base);
}

/// Refuses files whose layers with and without windows have different sizes.
void refuse_other_window_sizes(const Metadata& metadata, const ModelConfig& c) {
  const auto check = [&](const char* suffix, size_t size) {
    const size_t given = metadata.integer(suffix, size);
    if (given == size) return;
    metadata.refuse(suffix, fmt::format("{}", given),
                    fmt::format("{}, as in the layers without windows", size));
  };
  check(".attention.key_length_swa", c.key_dim);
  check(".attention.value_length_swa", c.value_dim);
  check(".rope.dimension_count_swa", c.rope.dim);
}

}  // namespace

const Architecture& read_architecture(const GgufFile& file) {
  const std::string type = file.find_string("general.type").value_or("model");
  if (type != "model") {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: 'general.type' is '{:.64}'; expected 'model': adapters must be "
                            "merged into their model (llama-export-lora), and image and sound "
                            "encoders are not supported",
                            file.path(), type));
  }
  const std::string name = file.string("general.architecture");
  try {
    return find_architecture(name);
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kUnsupported) throw;
    const std::vector<std::string> missing = missing_features(file, name);
    throw Error(e.code(),
                fmt::format("{}: {}. {}", file.path(), e.what(),
                            missing.empty()
                                ? "Nothing in the file shows what it needs besides"
                                : fmt::format("This model needs {}", fmt::join(missing, ", "))));
  }
}

ModelConfig read_config(const GgufFile& file, const Architecture& architecture) {
  ModelConfig c;
  c.architecture = architecture.name;
  c.name = file.find_string("general.name").value_or("");
  c.file_bytes = file.size();
  const Metadata metadata(file, architecture.name);
  read_sizes(file, metadata, c);
  read_experts(metadata, architecture, c);
  read_scales(metadata, architecture, c);
  read_windows(metadata, architecture, c);
  read_rope(file, metadata, architecture, c);
  refuse_other_window_sizes(metadata, c);
  return c;
}

void stretch_context(const GgufFile& file, const Architecture& architecture,
                     const ModelOptions& options, ModelConfig& c) {
  RopeConfig& rope = c.rope;
  const bool own_window_rope = architecture.window_rope_base > 0 ||
                               architecture.plain_window_rope ||
                               file.find_number(c.architecture + ".rope.freq_base_swa");
  const double factor = options.rope_factor;
  const auto refuse = [](const std::string& what) {
    throw Error(ErrorCode::kInvalidArgument, what);
  };
  if (options.rope_scaling.empty()) {
    if (factor == 1) return;
    refuse(fmt::format(
        "the RoPE factor {} has no effect without a RoPE scaling (linear, ntk or yarn)", factor));
  }
  if (!(factor > 1 && factor <= 1024)) {
    refuse(fmt::format("the RoPE factor is {}; it must be above 1 and at most 1024", factor));
  }
  if (rope.factor != 1 || rope.scaling != RopeConfig::Scaling::kLinear ||
      rope.original_context < c.context_length) {
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

}  // namespace restkv
