#include "model/weight_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numeric>
#include <optional>
#include <string_view>
#include <utility>

#include "linear/tiles.h"
#include "restkv/error.h"

namespace restkv {
namespace {

size_t sum(std::span<const size_t> sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), size_t{0});
}

/// 3 of "blk.3.attn_q.weight".
std::optional<size_t> layer_of(std::string_view tensor) {
  constexpr std::string_view kPrefix = "blk.";
  if (!tensor.starts_with(kPrefix)) return std::nullopt;
  const char* end = tensor.data() + tensor.size();
  size_t layer = 0;
  const auto [rest, error] = std::from_chars(tensor.data() + kPrefix.size(), end, layer);
  return error == std::errc() && rest != end && *rest == '.' ? std::optional(layer) : std::nullopt;
}

}  // namespace

Weight WeightReader::read(const std::string& name, size_t rows, size_t cols, size_t count) {
  if (read_.insert(name).second) weights_ += rows * cols * count;
  return file_.tensor(name, rows, cols, count);
}

void WeightReader::require_finite(const Weight& weight, const std::string& name) const {
  for_each_row(weight.rows, [&](size_t r) {
    std::vector<float> row(weight.cols);
    dequantize_row(weight, r, row.data());
    if (std::all_of(row.begin(), row.end(), [](float v) { return std::isfinite(v); })) return;
    file_.fail(fmt::format("tensor '{}' holds NaN or infinity", name));
  });
}

std::vector<float> WeightReader::vector(const std::string& name, size_t size) {
  std::vector<float> values(size);
  dequantize_row(read(name, 1, size), 0, values.data());
  for (const float v : values) {
    if (!std::isfinite(v)) file_.fail(fmt::format("tensor '{}' holds NaN or infinity", name));
  }
  return values;
}

Weight WeightReader::table(const std::string& name, size_t rows, size_t cols) {
  return read(name, rows, cols);
}

float WeightReader::scale(const std::string& name, ggml_type type) {
  const std::string tensor = name + ".scale";
  return type == GGML_TYPE_NVFP4 && has(tensor) ? vector(tensor, 1).front() : 1;
}

std::vector<Weight> WeightReader::matrices(std::span<const std::string> names,
                                           std::span<const size_t> rows, size_t cols) {
  std::vector<Weight> parts;
  for (size_t i = 0; i < names.size(); ++i) {
    parts.push_back(read(names[i] + ".weight", rows[i], cols));
    parts.back().scale = scale(names[i], parts.back().type);
    types_.insert(ggml_type_name(parts.back().type));
  }
  return parts;
}

std::vector<float> WeightReader::biases(std::span<const std::string> names,
                                        std::span<const size_t> rows) {
  std::vector<float> bias;
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string name = names[i] + ".bias";
    if (!has(name)) continue;
    bias.resize(sum(rows.first(i)));
    const std::vector<float> part = vector(name, rows[i]);
    bias.insert(bias.end(), part.begin(), part.end());
  }
  if (!bias.empty()) bias.resize(sum(rows));
  return bias;
}

Linear WeightReader::linear(std::span<const std::string> names, std::span<const size_t> rows,
                            size_t cols) {
  return Linear(matrices(names, rows, cols), biases(names, rows));
}

Linear WeightReader::finite_linear(const std::string& name, size_t rows, size_t cols) {
  Linear matrix = linear(name, rows, cols);
  require_finite(matrix.parts().front(), name + ".weight");
  return matrix;
}

std::vector<Linear> WeightReader::experts(std::span<const std::string> names,
                                          std::span<const size_t> rows, size_t cols, size_t count) {
  std::vector<std::vector<Weight>> parts(count);
  std::vector<std::vector<float>> biases(count);
  size_t before = 0;
  for (size_t i = 0; i < names.size(); ++i) {
    const Weight all = read(names[i] + ".weight", rows[i], cols, count);
    types_.insert(ggml_type_name(all.type));
    const std::string bias_name = names[i] + ".bias";
    const bool has_bias = has(bias_name);
    const Weight all_biases = has_bias ? read(bias_name, count, rows[i]) : Weight();
    if (has_bias) require_finite(all_biases, bias_name);
    for (size_t e = 0; e < count; ++e) {
      parts[e].push_back({all.row(e * rows[i]), all.type, rows[i], cols, all.in_file});
      if (!has_bias) continue;
      biases[e].resize(sum(rows));
      dequantize_row(all_biases, e, biases[e].data() + before);
    }
    before += rows[i];
  }
  std::vector<Linear> matrices;
  matrices.reserve(count);
  for (size_t e = 0; e < count; ++e) {
    matrices.emplace_back(std::move(parts[e]), std::move(biases[e]));
  }
  return matrices;
}

Linear WeightReader::fused_or_parts(const std::string& fused, std::span<const std::string> names,
                                    std::span<const size_t> rows, size_t cols) {
  if (!has(fused + ".weight")) return linear(names, rows, cols);
  const size_t all = sum(rows);
  return Linear(matrices({&fused, 1}, {&all, 1}, cols),
                has(fused + ".bias") ? bias(fused, all) : biases(names, rows));
}

std::string WeightReader::types() const { return fmt::format("{}", fmt::join(types_, ", ")); }

bool WeightReader::changes_nothing(const std::string& name) const {
  // libllama loads scales of activations but does not use them.
  if (name.ends_with(".input_scale")) return true;
  // Heads for embeddings and rankings.
  constexpr std::array kHeads{"cls.output.weight", "dense_2.weight", "dense_3.weight"};
  if (std::find(kHeads.begin(), kHeads.end(), name) != kHeads.end()) return true;
  if (!name.ends_with(".scale")) return false;
  float scale = 0;
  dequantize_row(file_.tensor(name, 1, 1), 0, &scale);
  return scale == 1;
}

void WeightReader::refuse_what_was_not_read(const std::string& architecture, size_t layers) const {
  std::vector<std::string> left;
  for (const auto& [view, tensor] : file_.index().tensors) {
    const std::string name(view);
    if (read_.contains(name) || changes_nothing(name)) continue;
    if (layer_of(name).value_or(0) >= layers) {
      file_.fail(
          fmt::format("has the tensor '{}', but '{}.block_count' is {}. Convert the model "
                      "again, or correct the key",
                      name, architecture, layers));
    }
    left.push_back(name);
  }
  if (left.empty()) return;
  const std::string more = left.size() > 1 ? fmt::format(" (and {} more)", left.size() - 1) : "";
  const bool scaled = left.front().ends_with(".scale");
  throw Error(
      ErrorCode::kUnsupported,
      fmt::format("{}: has the tensor '{}'{}, which restkv does not compute with in '{}' models: "
                  "without it the answers would be wrong. {}",
                  file_.path(), left.front(), more, architecture,
                  scaled ? "Take the model in another quantisation, such as Q4_K_M or Q8_0"
                         : "Take a file that llama.cpp's own converter made, or another model"));
}

}  // namespace restkv
