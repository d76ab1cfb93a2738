#include "make_model/first_layers.h"

#include <fmt/format.h>
#include <ggml.h>
#include <gguf.h>

#include <charconv>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "model/ggml_log.h"
#include "model/gguf_index.h"
#include "restkv/error.h"

namespace restkv {
namespace {

using Gguf = std::unique_ptr<gguf_context, decltype(&gguf_free)>;
using GgmlContext = std::unique_ptr<ggml_context, decltype(&ggml_free)>;

constexpr const char* kArchitecture = "general.architecture";
constexpr const char* kName = "general.name";
constexpr const char* kParts = "split.count";

[[noreturn]] void refuse(const std::string& source, const std::string& why) {
  throw Error(ErrorCode::kInput, fmt::format("cannot take layers from {}: {}", source, why));
}

/// Whether a tensor belongs to a layer that is left out: "blk.7.attn_q.weight".
bool is_left_out(std::string_view tensor, size_t layers) {
  constexpr std::string_view kLayer = "blk.";
  if (!tensor.starts_with(kLayer)) return false;
  size_t layer = 0;
  std::from_chars(tensor.data() + kLayer.size(), tensor.data() + tensor.size(), layer);
  return layer >= layers;
}

/// Cuts the arrays that have an entry for each layer (counts of heads, widths).
void cut_arrays(gguf_context* gguf, const std::string& prefix, size_t all, size_t layers) {
  for (int64_t key = 0; key < gguf_get_n_kv(gguf); ++key) {
    const std::string name = gguf_get_key(gguf, key);
    if (!name.starts_with(prefix) || gguf_get_kv_type(gguf, key) != GGUF_TYPE_ARRAY ||
        gguf_get_arr_n(gguf, key) != all || gguf_get_arr_type(gguf, key) == GGUF_TYPE_STRING) {
      continue;
    }
    const gguf_type type = gguf_get_arr_type(gguf, key);
    const auto* data = static_cast<const char*>(gguf_get_arr_data(gguf, key));
    const std::vector<char> kept(data, data + layers * gguf_number_size(type));
    gguf_set_arr_data(gguf, name.c_str(), type, kept.data(), layers);
  }
}

}  // namespace

void write_first_layers(const std::string& source, size_t layers, const std::string& path) {
  capture_ggml_log();
  ggml_context* tensors = nullptr;
  const Gguf gguf(gguf_init_from_file(source.c_str(), {.no_alloc = true, .ctx = &tensors}),
                  gguf_free);
  if (gguf == nullptr) refuse(source, "it is not a readable GGUF file; " + take_ggml_errors());
  const GgmlContext context(tensors, ggml_free);

  const int64_t architecture = gguf_find_key(gguf.get(), kArchitecture);
  if (architecture < 0) refuse(source, fmt::format("it has no '{}'", kArchitecture));
  const std::string prefix = fmt::format("{}.", gguf_get_val_str(gguf.get(), architecture));
  const std::string count_key = prefix + "block_count";
  const int64_t count = gguf_find_key(gguf.get(), count_key.c_str());
  if (count < 0 || gguf_get_kv_type(gguf.get(), count) != GGUF_TYPE_UINT32) {
    refuse(source, fmt::format("it has no '{}'", count_key));
  }
  if (gguf_find_key(gguf.get(), kParts) >= 0) {
    refuse(source, "it is a part of a split model; join the parts with llama-gguf-split --merge");
  }
  const size_t all = gguf_get_val_u32(gguf.get(), count);
  if (layers < 1 || layers > all) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} has {} layers, not {}; choose 1 to {}", source, all, layers, all));
  }

  const Gguf part(gguf_init_empty(), gguf_free);
  gguf_set_kv(part.get(), gguf.get());
  gguf_set_val_u32(part.get(), count_key.c_str(), static_cast<uint32_t>(layers));
  // Reports and pictures name models: figures of a part must not pass for those of the whole.
  const int64_t key = gguf_find_key(gguf.get(), kName);
  if (layers < all && key >= 0 && gguf_get_kv_type(gguf.get(), key) == GGUF_TYPE_STRING) {
    const std::string text =
        fmt::format("{}, {} of {} layers", gguf_get_val_str(gguf.get(), key), layers, all);
    gguf_set_val_str(part.get(), kName, text.c_str());
  }
  cut_arrays(part.get(), prefix, all, layers);
  std::vector<int64_t> kept;
  size_t bytes = 0;
  for (int64_t i = 0; i < gguf_get_n_tensors(gguf.get()); ++i) {
    const char* name = gguf_get_tensor_name(gguf.get(), i);
    if (is_left_out(name, layers)) continue;
    gguf_add_tensor(part.get(), ggml_get_tensor(context.get(), name));
    kept.push_back(i);
    bytes += gguf_get_tensor_size(gguf.get(), i);
  }

  const MappedFile file(source, "model");
  const std::string_view data = file.bytes().substr(gguf_get_data_offset(gguf.get()));
  std::string header(gguf_get_meta_size(part.get()), '\0');
  gguf_get_meta_data(part.get(), header.data());
  AtomicFile out(path, header.size() + bytes);
  out.write(header);
  for (const int64_t i : kept) {
    const size_t size = gguf_get_tensor_size(gguf.get(), i);
    const size_t offset = gguf_get_tensor_offset(gguf.get(), i);
    if (offset > data.size() || size > data.size() - offset) {
      refuse(source, fmt::format("it ends within '{}'", gguf_get_tensor_name(gguf.get(), i)));
    }
    out.write(data.substr(offset, size));
    out.write(std::string(GGML_PAD(size, gguf_get_alignment(part.get())) - size, '\0'));
  }
  out.commit();
}

}  // namespace restkv
