#include "model/forward.h"

#include <fmt/format.h>

#include <algorithm>

#include "restkv/error.h"

namespace restkv {
namespace {

/// `dense` may be null.
void multiply(Matrix<const float> x, const Linear& weight, const PromptWeight* dense,
              StoredProduct stored, Matrix<float> y) {
  if (dense != nullptr) {
    dense->multiply(x, y);
  } else {
    weight.multiply_stored(x, y, stored);
  }
  if (!weight.bias().empty()) add_bias(y, weight.bias());
}

/// Room for [rows, cols] in `storage`, which keeps its memory from call to call.
Matrix<float> room(AlignedVector<float>& storage, size_t rows, size_t cols) {
  if (storage.size() < rows * cols) storage.resize(rows * cols);
  return {storage.data(), rows, cols};
}

/// Columns [begin, begin + heads * dim) of token-major rows, seen as heads.
Heads<float> as_heads(Matrix<float> rows, size_t begin, size_t heads, size_t dim) {
  return {rows.data + begin, heads, rows.rows, dim, dim, rows.stride};
}

/// Heads [begin, begin + count) of queries and keys, which lie one after the other in the output of
/// the layer's first product.
Heads<float> project(const Model& model, size_t layer, const DenseLayer& dense, RopeTable& rope,
                     std::span<const size_t> positions, Matrix<const float> x, size_t begin,
                     size_t count, std::span<const float> head_norm, Activations& scratch) {
  const ModelConfig& c = model.config();
  const LayerWeights& w = model.weights().layers[layer];
  const auto normed = room(scratch.normed, x.rows, c.width);
  rms_norm(x, w.attention_norm, c.norm_epsilon, normed);
  const auto rows = room(scratch.qkv, x.rows, count * c.key_dim);
  dense.qkv.multiply(normed, rows, begin * c.key_dim);
  if (!w.qkv.bias().empty()) {
    add_bias(rows, w.qkv.bias().subspan(begin * c.key_dim, rows.cols));
  }
  const auto heads = as_heads(rows, 0, count, c.key_dim);
  if (!head_norm.empty()) rms_norm_heads(heads, head_norm, c.norm_epsilon);
  rope.rotate(heads, positions);
  return heads;
}

}  // namespace

void DenseLayer::make(const LayerWeights& layer, LinearPrecision precision) {
  qkv.convert(layer.qkv, precision);
  output.convert(layer.output, precision);
  gate_up.convert(layer.gate_up, precision);
  down.convert(layer.down, precision);
}

void embed(const Model& model, std::span<const int32_t> tokens, Matrix<float> x) {
  const Weight& table = model.weights().token_embedding;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || static_cast<size_t>(tokens[i]) >= table.rows) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("token id {} at position {} is outside the vocabulary of {}",
                              tokens[i], i, table.rows));
    }
    dequantize_row(table, static_cast<size_t>(tokens[i]), x.row(i));
  }
  if (model.config().embedding_scale != 1) scale(x, model.config().embedding_scale);
}

void run_layer(const Model& model, size_t layer, const DenseLayer* dense, StoredProduct stored,
               RopeTable& rope, std::span<const size_t> positions, size_t wanted, Matrix<float> x,
               Activations& scratch, Attend attend) {
  const ModelConfig& c = model.config();
  const LayerWeights& w = model.weights().layers[layer];
  const size_t rows = x.rows;

  const auto normed = room(scratch.normed, rows, c.width);
  rms_norm(x, w.attention_norm, c.norm_epsilon, normed);
  const auto qkv = room(scratch.qkv, rows, w.qkv.rows());
  multiply(normed, w.qkv, dense != nullptr ? &dense->qkv : nullptr, stored, qkv);
  const auto queries = as_heads(qkv, 0, c.query_heads, c.key_dim);
  const auto keys = as_heads(qkv, c.query_heads * c.key_dim, c.kv_heads, c.key_dim);
  const auto values =
      as_heads(qkv, (c.query_heads + c.kv_heads) * c.key_dim, c.kv_heads, c.value_dim);
  if (!w.query_norm.empty()) {
    rms_norm_heads(queries, w.query_norm, c.norm_epsilon);
    rms_norm_heads(keys, w.key_norm, c.norm_epsilon);
  }
  rope.rotate(queries, positions);
  rope.rotate(keys, positions);

  const auto attended = room(scratch.attended, wanted, c.query_heads * c.value_dim);
  attend(queries, keys, values, as_heads(attended, 0, c.query_heads, c.value_dim));
  if (wanted == 0) return;

  const auto out = x.slice(rows - wanted, wanted);
  const auto projected = room(scratch.projected, wanted, c.width);
  multiply(attended, w.output, dense != nullptr ? &dense->output : nullptr, stored, projected);
  if (!w.attention_post_norm.empty()) {
    rms_norm(projected, w.attention_post_norm, c.norm_epsilon, projected);
  }
  add(out, projected);

  const auto ffn_input = normed.slice(0, wanted);
  rms_norm(out, w.ffn_norm, c.norm_epsilon, ffn_input);
  const auto gate_up = room(scratch.gate_up, wanted, w.gate_up.rows());
  multiply(ffn_input, w.gate_up, dense != nullptr ? &dense->gate_up : nullptr, stored, gate_up);
  gate_multiply(gate_up, model.weights().architecture->activation);
  multiply({gate_up.data, wanted, c.ffn_width, gate_up.stride}, w.down,
           dense != nullptr ? &dense->down : nullptr, stored, projected);
  if (!w.ffn_post_norm.empty()) rms_norm(projected, w.ffn_post_norm, c.norm_epsilon, projected);
  add(out, projected);
}

Heads<float> layer_queries(const Model& model, size_t layer, const DenseLayer& dense,
                           RopeTable& rope, std::span<const size_t> positions,
                           Matrix<const float> x, Activations& scratch) {
  return project(model, layer, dense, rope, positions, x, 0, model.config().query_heads,
                 model.weights().layers[layer].query_norm, scratch);
}

Heads<float> layer_keys(const Model& model, size_t layer, const DenseLayer& dense, RopeTable& rope,
                        std::span<const size_t> positions, Matrix<const float> x,
                        Activations& scratch) {
  const ModelConfig& c = model.config();
  return project(model, layer, dense, rope, positions, x, c.query_heads, c.kv_heads,
                 model.weights().layers[layer].key_norm, scratch);
}

void unembed(const Model& model, Matrix<const float> x, StoredProduct stored, Matrix<float> logits,
             Activations& scratch) {
  const ModelConfig& c = model.config();
  const Linear& table = model.weights().unembedding;
  const auto normed = room(scratch.normed, x.rows, c.width);
  rms_norm(x, model.weights().output_norm, c.norm_epsilon, normed);
  if (x.rows < kDenseFromRows) {
    table.multiply_stored(normed, logits, stored);
  } else {
    // The table is by far the largest matrix: convert a part of it at a time.
    constexpr size_t kPart = 4096;
    AlignedVector<float> dense;
    for (size_t begin = 0; begin < table.rows(); begin += kPart) {
      Weight part = table.parts().front();
      part.data = part.row(begin);
      part.rows = std::min(kPart, table.rows() - begin);
      multiply_dense(normed, Linear({part}).densify(dense),
                     {logits.data + begin, logits.rows, part.rows, logits.stride});
    }
  }
  if (!table.bias().empty()) add_bias(logits, table.bias());
  if (c.final_softcap > 0) softcap(logits, c.final_softcap);
}

}  // namespace restkv
