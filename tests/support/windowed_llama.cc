#include "support/windowed_llama.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <vector>

namespace restkv::testing {
namespace {

using Gguf = std::unique_ptr<gguf_context, decltype(&gguf_free)>;
using GgmlContext = std::unique_ptr<ggml_context, decltype(&ggml_free)>;

void set_metadata(const RandomModel& model, gguf_context* gguf) {
  const auto integer = [&](const char* suffix, size_t value) {
    gguf_set_val_u32(gguf, (std::string("granite_swa.") + suffix).c_str(),
                     static_cast<uint32_t>(value));
  };
  const auto number = [&](const char* suffix, double value) {
    gguf_set_val_f32(gguf, (std::string("granite_swa.") + suffix).c_str(),
                     static_cast<float>(value));
  };
  gguf_set_val_str(gguf, "general.architecture", "granite_swa");
  integer("context_length", model.context);
  integer("block_count", model.layers);
  integer("embedding_length", model.width);
  integer("feed_forward_length", model.ffn_width);
  integer("attention.head_count", model.query_heads);
  integer("attention.head_count_kv", model.kv_heads);
  integer("attention.key_length", model.head_dim);
  integer("attention.value_length", model.head_dim);
  number("attention.layer_norm_rms_epsilon", model.norm_epsilon);
  number("rope.freq_base", model.rope_base);
  number("logit_scale", 1);
  integer("attention.sliding_window", model.window);
  std::vector<uint32_t> flags(model.layers, 1);
  for (size_t i = 0; i < model.layers && model.window_pattern > 0; ++i) {
    flags[i] = i % model.window_pattern + 1 < model.window_pattern ? 1 : 0;
  }
  gguf_set_arr_data(gguf, "granite_swa.attention.sliding_window_pattern", GGUF_TYPE_UINT32,
                    flags.data(), flags.size());
}

}  // namespace

void write_windowed_llama(const RandomModel& model, const std::string& path) {
  model.write(path);
  ggml_context* data = nullptr;
  const Gguf source(gguf_init_from_file(path.c_str(), {.no_alloc = false, .ctx = &data}),
                    gguf_free);
  const GgmlContext tensors(data, ggml_free);
  if (source == nullptr) throw std::runtime_error("cannot read " + path);
  const Gguf gguf(gguf_init_empty(), gguf_free);
  gguf_set_kv(gguf.get(), source.get());
  set_metadata(model, gguf.get());
  for (int64_t i = 0; i < gguf_get_n_tensors(source.get()); ++i) {
    gguf_add_tensor(gguf.get(),
                    ggml_get_tensor(tensors.get(), gguf_get_tensor_name(source.get(), i)));
  }
  const GgmlContext sinks(ggml_init({.mem_size = model.layers * (ggml_tensor_overhead() + 4096),
                                     .mem_buffer = nullptr,
                                     .no_alloc = false}),
                          ggml_free);
  for (size_t i = 0; i < model.layers; ++i) {
    ggml_tensor* sink =
        ggml_new_tensor_1d(sinks.get(), GGML_TYPE_F32, static_cast<int64_t>(model.query_heads));
    ggml_set_name(sink, ("blk." + std::to_string(i) + ".attn_sinks.weight").c_str());
    std::fill_n(ggml_get_data_f32(sink), model.query_heads, std::numeric_limits<float>::lowest());
    gguf_add_tensor(gguf.get(), sink);
  }
  if (!gguf_write_to_file(gguf.get(), path.c_str(), false)) {
    throw std::runtime_error("cannot write " + path);
  }
}

}  // namespace restkv::testing
