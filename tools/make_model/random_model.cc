#include "make_model/random_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <utility>

#include "base/file.h"
#include "base/threads.h"
#include "make_model/families.h"
#include "make_model/tokenizer_metadata.h"
#include "restkv/error.h"

namespace restkv {
namespace {

using Gguf = std::unique_ptr<gguf_context, decltype(&gguf_free)>;
using GgmlContext = std::unique_ptr<ggml_context, decltype(&ggml_free)>;

// --- Random numbers ------------------------------------------------------------------------------

/// The finaliser of SplitMix64: consecutive inputs give independent outputs, so that any weight can
/// be computed without the ones before it.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31U);
}

/// FNV-1a of the tensor's name, so that its weights do not depend on other tensors.
uint64_t stream_of(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return mix(seed ^ mix(hash));
}

/// The sum of four uniform numbers: nearly normal, with mean 0 and deviation 1.
float random_normal(uint64_t bits) {
  const auto lane = [bits](unsigned shift) {
    return static_cast<float>((bits >> shift) & 0xffffU);
  };
  const float sum = lane(0) + lane(16) + lane(32) + lane(48);  // of 0..65535, variance 65536^2 / 12
  return (sum - 131070.0F) * (std::numbers::sqrt3_v<float> / 65536.0F);
}

// --- Tensors -------------------------------------------------------------------------------------

/// A tensor before its values exist: they are random, or given (frequency factors).
struct Plan {
  std::string name;
  size_t rows = 0;
  size_t cols = 0;
  ggml_type type = GGML_TYPE_F32;
  double mean = 0;
  double deviation = 0;
  std::vector<float> given;
  size_t matrices = 1;  // that the rows belong to

  void fill(uint64_t seed, size_t first_row, size_t count, float* out) const {
    if (!given.empty()) {
      std::copy_n(given.data() + first_row * cols, count * cols, out);
      return;
    }
    const uint64_t stream = stream_of(seed, name);
    for (size_t i = 0; i < count * cols; ++i) {
      const float unit = random_normal(mix(stream + first_row * cols + i));
      out[i] = static_cast<float>(mean) + static_cast<float>(deviation) * unit;
    }
  }
};

std::vector<float> stretch_factors(const RopeStretch& stretch, double base, size_t rope_dim) {
  std::vector<float> factors;
  for (size_t i = 0; i < rope_dim; i += 2) {
    const double frequency =
        std::pow(base, -static_cast<double>(i) / static_cast<double>(rope_dim));
    // The number of turns within the original context decides.
    const double turns = stretch.original_context * frequency / (2 * std::numbers::pi);
    const double keep = std::clamp(
        (turns - stretch.low_frequency) / (stretch.high_frequency - stretch.low_frequency), 0.0,
        1.0);
    factors.push_back(static_cast<float>(1 / (keep + (1 - keep) / stretch.factor)));
  }
  return factors;
}

/// Factors that grow from `first` to `last` over the frequencies, as LongRoPE's do.
std::vector<float> growing_factors(size_t count, double first, double last) {
  std::vector<float> factors(count);
  for (size_t i = 0; i < count; ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(count);
    factors[i] = static_cast<float>(first + (last - first) * share * share);
  }
  return factors;
}

/// Sizes with the defaults resolved.
struct Sizes {
  size_t value_dim, rope_dim, vocabulary;
};

Sizes sizes_of(const RandomModel& model, size_t vocabulary) {
  return {.value_dim = model.value_dim != 0 ? model.value_dim : model.head_dim,
          .rope_dim = model.rope_dim != 0 ? model.rope_dim : model.head_dim,
          .vocabulary = vocabulary};
}

class Planner {
 public:
  Planner(const RandomModel& model, const Sizes& sizes)
      : model_(model), sizes_(sizes), family_(find_family(model.architecture)) {}

  std::vector<Plan> plan() {
    matrix("token_embd", sizes_.vocabulary, model_.width, input_deviation());
    if (model_.tied || family_.always_tied) {
      // With weights around 1, the likeliest token would always be the one just read, whose row is
      // still in the residual stream.
      add("output_norm.weight", 1, model_.width, GGML_TYPE_F32, 0, 1);
    } else {
      norm("output_norm", model_.width);
      matrix("output", sizes_.vocabulary, model_.width, input_deviation());
    }
    rope_factors();
    for (size_t i = 0; i < model_.layers; ++i) {
      prefix_ = fmt::format("blk.{}.", i);
      attention();
      feed_forward();
    }
    return std::move(plans_);
  }

 private:
  // Of the logits: their variance is `width` times that of the lm_head, which may be the
  // embedding table.
  static constexpr double kLogitDeviation = 3;
  // Of queries and keys; that of attention's logits is the square. With 2, a row over 300 tokens
  // weighs like one over 5.
  static constexpr double kQueryDeviation = std::numbers::sqrt2;
  // Of the logits of experts: the likeliest few differ clearly from the others.
  static constexpr double kRouterDeviation = 2;
  static constexpr double kSinkLogit = 4;
  // What all layers together add to the residual stream, relative to the embedding.
  static constexpr double kLayersTogether = 1.5;

  [[nodiscard]] bool has_biases() const { return family_.all_biases || model_.biases; }
  [[nodiscard]] static double inverse_root(size_t n) {
    return 1 / std::sqrt(static_cast<double>(n));
  }
  [[nodiscard]] double input_deviation() const {
    const double divisor = model_.logit_scale != 0 ? model_.logit_scale : 1;
    return divisor * kLogitDeviation * inverse_root(model_.width);
  }
  /// Of what attention or the feed-forward network of one layer adds to the residual stream.
  [[nodiscard]] double branch_deviation() const {
    const double input = family_.scaled_input ? kLogitDeviation : input_deviation();
    const double scaled = model_.embedding_scale != 0 ? input * model_.embedding_scale : input;
    const double residual = model_.residual_scale != 0 ? model_.residual_scale : 1;
    return kLayersTogether * scaled * inverse_root(2 * model_.layers) / residual;
  }
  /// Of the matrices that make it.
  [[nodiscard]] double output_deviation(size_t cols) const {
    return (family_.post_norms ? 1 : branch_deviation()) * inverse_root(cols);
  }

  void add(const std::string& name, size_t rows, size_t cols, ggml_type type, double mean,
           double deviation, std::vector<float> given = {}) {
    plans_.push_back({prefix_ + name, rows, cols, type, mean, deviation, std::move(given)});
  }
  /// A matrix for every expert.
  void expert_matrices(const std::string& name, size_t rows, size_t cols, double deviation) {
    matrix(name, model_.experts * rows, cols, deviation);
    plans_.back().matrices = model_.experts;
  }
  void matrix(const std::string& name, size_t rows, size_t cols, double deviation) {
    add(name + ".weight", rows, cols, model_.type, 0, deviation);
  }
  void norm(const std::string& name, size_t cols, double mean = 1) {
    add(name + ".weight", 1, cols, GGML_TYPE_F32, mean, 0.1 * mean);
  }
  void bias(const std::string& name, size_t cols) {
    add(name + ".bias", 1, cols, GGML_TYPE_F32, 0, 0.5);
  }
  void factors(const std::string& name, std::vector<float> values) {
    const size_t count = values.size();
    add(name + ".weight", 1, count, GGML_TYPE_F32, 0, 0, std::move(values));
  }

  void rope_factors() {
    if (model_.rope_stretch) {
      factors("rope_freqs",
              stretch_factors(*model_.rope_stretch, model_.rope_base, sizes_.rope_dim));
    }
    if (model_.rope_scaling == "longrope") {
      factors("rope_factors_long", growing_factors(sizes_.rope_dim / 2, 1.05, 32));
      factors("rope_factors_short", growing_factors(sizes_.rope_dim / 2, 1, 2));
    }
  }

  void attention() {
    const size_t width = model_.width;
    const size_t queries = model_.query_heads * model_.head_dim;
    const size_t keys = model_.kv_heads * model_.head_dim;
    const size_t values = model_.kv_heads * sizes_.value_dim;
    const size_t attended = model_.query_heads * sizes_.value_dim;
    const double query_deviation = kQueryDeviation * inverse_root(width);

    if (!family_.no_pre_norms) norm("attn_norm", width);
    if (family_.fused) {
      matrix("attn_qkv", queries + keys + values, width, query_deviation);
    } else {
      matrix("attn_q", queries, width, query_deviation);
      matrix("attn_k", keys, width, query_deviation);
      matrix("attn_v", values, width, inverse_root(width));
    }
    if (family_.qkv_bias || has_biases()) {
      bias("attn_q", queries);
      bias("attn_k", keys);
      bias("attn_v", values);
    }
    if (family_.qk_norm) {
      norm("attn_q_norm", model_.head_dim, kQueryDeviation);
      norm("attn_k_norm", model_.head_dim, kQueryDeviation);
    }
    if (family_.whole_qk_norm) {
      norm("attn_q_norm", queries, kQueryDeviation);
      norm("attn_k_norm", keys, kQueryDeviation);
    }
    matrix("attn_output", width, attended, output_deviation(attended));
    // What is added to the residual stream for every token must not outweigh the rest of it.
    if (family_.all_biases) {
      add("attn_output.bias", 1, width, GGML_TYPE_F32, 0, 0.1 * branch_deviation());
    } else if (model_.biases) {
      bias("attn_output", width);
    }
    // As heavy as a few keys: weights that matter and leave some for the others.
    if (family_.sinks) {
      add("attn_sinks.weight", 1, model_.query_heads, GGML_TYPE_F32, kSinkLogit, 1);
    }
    if (family_.post_norms) norm("post_attention_norm", width, branch_deviation());
  }

  /// Router and experts. The weights of a token's experts are about 1 / experts_used.
  void experts() {
    const size_t width = model_.width;
    const size_t hidden = model_.expert_width != 0 ? model_.expert_width : model_.ffn_width;
    add("ffn_gate_inp.weight", model_.experts, width, GGML_TYPE_F32, 0,
        kRouterDeviation * inverse_root(width));
    expert_matrices("ffn_gate_exps", hidden, width, inverse_root(width));
    expert_matrices("ffn_up_exps", hidden, width, inverse_root(width));
    expert_matrices("ffn_down_exps", width, hidden,
                    output_deviation(hidden) * std::sqrt(static_cast<double>(model_.experts_used)));
    if (has_biases()) {
      bias("ffn_gate_inp", model_.experts);
      for (const char* name : {"ffn_gate_exps", "ffn_up_exps"}) {
        add(std::string(name) + ".bias", model_.experts, hidden, GGML_TYPE_F32, 0, 0.5);
      }
      add("ffn_down_exps.bias", model_.experts, width, GGML_TYPE_F32, 0, 0.1 * branch_deviation());
    }
    const size_t shared = model_.shared_expert_width;
    if (shared == 0) return;
    if (family_.gated_shared_expert) {
      add("ffn_gate_inp_shexp.weight", 1, width, GGML_TYPE_F32, 0, inverse_root(width));
    }
    matrix("ffn_gate_shexp", shared, width, inverse_root(width));
    matrix("ffn_up_shexp", shared, width, inverse_root(width));
    matrix("ffn_down_shexp", width, shared, output_deviation(shared));
  }

  void feed_forward() {
    const size_t width = model_.width;
    const size_t hidden = model_.ffn_width;
    if (!family_.no_pre_norms) {
      norm(family_.post_attention_norm ? "post_attention_norm" : "ffn_norm", width);
    }
    if (model_.experts > 0) return experts();
    if (family_.fused) {
      matrix("ffn_up", 2 * hidden, width, inverse_root(width));
    } else {
      matrix("ffn_gate", hidden, width, inverse_root(width));
      matrix("ffn_up", hidden, width, inverse_root(width));
    }
    matrix("ffn_down", width, hidden, output_deviation(hidden));
    if (has_biases()) {
      bias("ffn_gate", hidden);
      bias("ffn_up", hidden);
      bias("ffn_down", width);
    }
    if (family_.post_norms) norm("post_ffw_norm", width, branch_deviation());
  }

  const RandomModel& model_;
  Sizes sizes_;
  const Family& family_;
  std::string prefix_;
  std::vector<Plan> plans_;
};

// --- Metadata ------------------------------------------------------------------------------------

void set_metadata(const RandomModel& model, const Sizes& sizes, gguf_context* gguf) {
  const Family& family = find_family(model.architecture);
  const auto key = [&](const char* suffix) { return model.architecture + "." + suffix; };
  const auto integer = [&](const char* suffix, size_t value) {
    gguf_set_val_u32(gguf, key(suffix).c_str(), static_cast<uint32_t>(value));
  };
  const auto number = [&](const char* suffix, double value) {
    gguf_set_val_f32(gguf, key(suffix).c_str(), static_cast<float>(value));
  };
  gguf_set_val_str(gguf, "general.architecture", model.architecture.c_str());
  gguf_set_val_str(gguf, "general.name", model.name.c_str());
  gguf_set_val_u32(gguf, "general.quantization_version", GGML_QNT_VERSION);
  integer("vocab_size", sizes.vocabulary);
  integer("context_length", model.context);
  integer("block_count", model.layers);
  integer("embedding_length", model.width);
  integer("feed_forward_length", model.ffn_width);
  integer("attention.head_count", model.query_heads);
  integer("attention.head_count_kv", model.kv_heads);
  const bool unusual =
      model.query_heads * model.head_dim != model.width || sizes.value_dim != model.head_dim;
  if (family.head_keys || unusual) {
    integer("attention.key_length", model.head_dim);
    integer("attention.value_length", sizes.value_dim);
  }
  number("attention.layer_norm_rms_epsilon", model.norm_epsilon);
  if (model.experts != 0) {
    integer("expert_count", model.experts);
    integer("expert_used_count", model.experts_used);
    if (family.own_expert_width) integer("expert_feed_forward_length", model.expert_width);
    if (model.shared_expert_width != 0) {
      integer("expert_shared_feed_forward_length", model.shared_expert_width);
    }
  }
  if (model.attention_scale != 0) number("attention.scale", model.attention_scale);
  if (model.embedding_scale != 0) number("embedding_scale", model.embedding_scale);
  if (model.residual_scale != 0) number("residual_scale", model.residual_scale);
  if (model.logit_scale != 0) number("logit_scale", model.logit_scale);
  if (family.rope_keys) {
    integer("rope.dimension_count", sizes.rope_dim);
  }
  // Gemma 1 and 2 leave the base out, like all that have the usual one.
  if (model.rope_base != 10000 || !family.scaled_input) number("rope.freq_base", model.rope_base);
  if (model.rope_base_local != 0) number("rope.freq_base_swa", model.rope_base_local);
  if (!model.rope_scaling.empty()) {
    gguf_set_val_str(gguf, key("rope.scaling.type").c_str(), model.rope_scaling.c_str());
  }
  if (model.rope_factor != 1) number("rope.scaling.factor", model.rope_factor);
  if (model.rope_original_context != 0) {
    integer("rope.scaling.original_context_length", model.rope_original_context);
  }
  if (model.rope_scaling == "longrope") {
    const auto original = static_cast<double>(model.rope_original_context);
    const double growth = static_cast<double>(model.context) / original;
    number("rope.scaling.attn_factor",
           growth > 1 ? std::sqrt(1 + std::log(growth) / std::log(original)) : 1.0);
  }
  if (model.window != 0) integer("attention.sliding_window", model.window);
  if (model.window_pattern != 0) {
    integer("attention.sliding_window_pattern", model.window_pattern);
  }
  if (model.attention_softcap != 0) number("attn_logit_softcapping", model.attention_softcap);
  if (model.final_softcap != 0) number("final_logit_softcapping", model.final_softcap);
}

void check(const RandomModel& model, const std::vector<Plan>& plans) {
  const auto fail = [](const std::string& what) { throw Error(ErrorCode::kInvalidArgument, what); };
  if (model.experts != 0 && model.experts_used > model.experts) {
    fail(fmt::format("{} of {} experts cannot be used", model.experts_used, model.experts));
  }
  const std::vector<ggml_type> types = weight_types();
  if (std::find(types.begin(), types.end(), model.type) == types.end()) {
    fail(fmt::format("weights cannot be written in the type {}", ggml_type_name(model.type)));
  }
  for (const Plan& plan : plans) {
    const auto block = static_cast<size_t>(ggml_blck_size(plan.type));
    if (plan.cols % block == 0) continue;
    fail(
        fmt::format("{} stores rows in blocks of {} weights, but the rows of '{}' have {}; choose "
                    "a type with smaller blocks, such as Q8_0 or F16",
                    ggml_type_name(plan.type), block, plan.name, plan.cols));
  }
}

// --- Writing -------------------------------------------------------------------------------------

size_t bytes_of(const Plan& plan) {
  return plan.rows * ggml_row_size(plan.type, static_cast<int64_t>(plan.cols));
}

/// Lists the tensors in the header; their data follow in the same order.
void add_tensors(const std::vector<Plan>& plans, gguf_context* gguf) {
  const GgmlContext context(ggml_init({.mem_size = (plans.size() + 1) * ggml_tensor_overhead(),
                                       .mem_buffer = nullptr,
                                       .no_alloc = true}),
                            ggml_free);
  for (const Plan& plan : plans) {
    const auto rows = static_cast<int64_t>(plan.rows);
    const auto cols = static_cast<int64_t>(plan.cols);
    const auto matrices = static_cast<int64_t>(plan.matrices);
    ggml_tensor* tensor = rows == 1       ? ggml_new_tensor_1d(context.get(), plan.type, cols)
                          : matrices == 1 ? ggml_new_tensor_2d(context.get(), plan.type, cols, rows)
                                          : ggml_new_tensor_3d(context.get(), plan.type, cols,
                                                               rows / matrices, matrices);
    ggml_set_name(tensor, plan.name.c_str());
    gguf_add_tensor(gguf, tensor);
  }
}

/// Makes, converts and writes tensors, a block of rows at a time.
class TensorWriter {
 public:
  TensorWriter(AtomicFile& file, size_t alignment, size_t total_bytes,
               const RandomModel::Progress& progress)
      : file_(file), alignment_(alignment), total_bytes_(total_bytes), progress_(progress) {}

  void write(const Plan& plan, uint64_t seed) {
    const size_t row_bytes = ggml_row_size(plan.type, static_cast<int64_t>(plan.cols));
    const size_t rows_per_task = std::max<size_t>(1, kValuesPerTask / plan.cols);
    // Some types ask which columns matter: all alike. The others are quicker without.
    const std::vector<float> importance(ggml_quantize_requires_imatrix(plan.type) ? plan.cols : 0,
                                        1.0F);
    ggml_quantize_init(plan.type);
    for (size_t begin = 0; begin < plan.rows; begin += kTasks * rows_per_task) {
      const size_t rows = std::min(kTasks * rows_per_task, plan.rows - begin);
      converted_.resize(rows * row_bytes);
      const size_t tasks = (rows + rows_per_task - 1) / rows_per_task;
      parallel_for(tasks, [&](size_t task, size_t /*thread*/) {
        const size_t first = task * rows_per_task;
        const size_t count = std::min(rows_per_task, rows - first);
        std::vector<float> values(count * plan.cols);
        plan.fill(seed, begin + first, count, values.data());
        ggml_quantize_chunk(plan.type, values.data(), converted_.data() + first * row_bytes, 0,
                            static_cast<int64_t>(count), static_cast<int64_t>(plan.cols),
                            importance.empty() ? nullptr : importance.data());
      });
      file_.write({converted_.data(), converted_.size()});
      report(converted_.size(), plan.name);
    }
    file_.write(std::string(GGML_PAD(bytes_of(plan), alignment_) - bytes_of(plan), '\0'));
  }

 private:
  static constexpr size_t kTasks = 64;
  static constexpr size_t kValuesPerTask = size_t{1} << 16U;

  void report(size_t bytes, const std::string& tensor) {
    done_bytes_ += bytes;
    if (!progress_) return;
    const double share = static_cast<double>(done_bytes_) / static_cast<double>(total_bytes_);
    if (!progress_(share, tensor)) throw Error(ErrorCode::kInterrupted, "interrupted");
  }

  AtomicFile& file_;
  size_t alignment_;
  size_t total_bytes_;
  const RandomModel::Progress& progress_;
  size_t done_bytes_ = 0;
  std::vector<char> converted_;
};

/// Lets `edit` change the tensors or leave them out.
std::vector<Plan> edited(const std::vector<Plan>& plans, uint64_t seed,
                         const std::function<bool(RandomTensor&)>& edit) {
  std::vector<Plan> kept;
  for (const Plan& plan : plans) {
    RandomTensor tensor{plan.name, plan.rows, plan.cols, plan.matrices, {}};
    tensor.values.resize(plan.rows * plan.cols);
    plan.fill(seed, 0, plan.rows, tensor.values.data());
    if (!edit(tensor)) continue;
    kept.push_back({tensor.name, tensor.rows, tensor.cols, plan.type, 0, 0,
                    std::move(tensor.values), tensor.matrices});
  }
  return kept;
}

}  // namespace

void RandomModel::write(const std::string& path, const Progress& progress) const {
  const Gguf gguf(gguf_init_empty(), gguf_free);
  const size_t tokens =
      tokenizer.empty() ? vocabulary : copy_tokenizer(tokenizer, vocabulary, gguf.get());
  const Sizes sizes = sizes_of(*this, tokens);
  set_metadata(*this, sizes, gguf.get());
  if (edit_metadata) edit_metadata(gguf.get());
  std::vector<Plan> plans = Planner(*this, sizes).plan();
  if (edit_tensor) plans = edited(plans, seed, edit_tensor);
  check(*this, plans);
  add_tensors(plans, gguf.get());

  size_t bytes = 0;
  for (const Plan& plan : plans) bytes += bytes_of(plan);
  std::string header(gguf_get_meta_size(gguf.get()), '\0');
  gguf_get_meta_data(gguf.get(), header.data());
  AtomicFile file(path, header.size() + bytes);
  file.write(header);
  TensorWriter writer(file, gguf_get_alignment(gguf.get()), bytes, progress);
  for (const Plan& plan : plans) writer.write(plan, seed);
  file.commit();
}

RandomModel::Size RandomModel::size() const {
  const std::vector<Plan> plans = Planner(*this, sizes_of(*this, vocabulary)).plan();
  check(*this, plans);
  Size size;
  for (const Plan& plan : plans) {
    size.bytes += bytes_of(plan);
    size.weights += plan.rows * plan.cols;
  }
  return size;
}

std::vector<ggml_type> weight_types() {
  std::vector<ggml_type> types{GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16};
  for (int i = 0; i < GGML_TYPE_COUNT; ++i) {
    const auto type = static_cast<ggml_type>(i);
    // These two are types of rounded activations, not of stored weights.
    if (type == GGML_TYPE_Q8_1 || type == GGML_TYPE_Q8_K) continue;
    if (ggml_is_quantized(type) && ggml_blck_size(type) > 0) types.push_back(type);
  }
  return types;
}

}  // namespace restkv
