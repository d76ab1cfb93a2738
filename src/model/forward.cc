#include "model/forward.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/feed_forward.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// A view of columns [begin, begin + heads * dim) of token-major rows as heads.
Heads<float> as_heads(Matrix<float> rows, size_t begin, size_t heads, size_t dim) {
  return {rows.data + begin, heads, rows.rows, dim, dim, rows.stride};
}

/// Norms every head, or all heads of a row together if the weight is as long as them. Without a
/// weight nothing changes.
void norm_heads(Heads<float> x, std::span<const float> weight, float epsilon) {
  if (weight.empty()) return;
  if (weight.size() == x.dim) {
    rms_norm_heads(x, weight, epsilon);
  } else {
    const Matrix<float> rows(x.data, x.rows, x.heads * x.dim, x.row_stride);
    rms_norm(rows, weight, epsilon, rows);
  }
}

/// Heads [begin, begin + count) of queries and keys, which are consecutive in the output of the
/// layer's first product.
Heads<float> project_some(const LayerPass& pass, std::span<const size_t> positions,
                          Matrix<const float> x, size_t begin, size_t count,
                          std::span<const float> head_norm) {
  const ModelConfig& c = pass.config();
  const LayerWeights& w = pass.weights();
  const auto normed = room(pass.activations.normed, x.rows, c.width);
  rms_norm(x, w.attention_norm, c.norm_epsilon, normed);
  const auto rows = room(pass.activations.qkv, x.rows, count * c.key_dim);
  pass.prefill_weights->qkv.multiply(normed, rows, begin * c.key_dim);
  if (!w.qkv.bias().empty()) {
    add_bias(rows, w.qkv.bias().subspan(begin * c.key_dim, rows.cols));
  }
  const auto heads = as_heads(rows, 0, count, c.key_dim);
  norm_heads(heads, head_norm, c.norm_epsilon);
  if (c.rotates(pass.layer)) pass.rope.rotate(heads, positions);
  return heads;
}

}  // namespace

void PrefillWeights::make(const LayerWeights& layer, LinearPrecision precision) {
  qkv.convert(layer.qkv, precision);
  output.convert(layer.output, precision);
  if (layer.gate_up.rows() > 0) {
    gate_up.convert(layer.gate_up, precision);
    down.convert(layer.down, precision);
  }
  if (layer.experts) router.convert(layer.experts->router, LinearPrecision::kF32);
}

void check_tokens(const Model& model, std::span<const int32_t> tokens) {
  const size_t vocabulary = model.weights().token_embedding.rows;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && static_cast<size_t>(tokens[i]) < vocabulary) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("token id {} at position {} is outside the vocabulary of {}", tokens[i],
                            i, vocabulary));
  }
}

void embed(const Model& model, std::span<const int32_t> tokens, Matrix<float> x) {
  check_tokens(model, tokens);
  const Weight& table = model.weights().token_embedding;
  for (size_t i = 0; i < tokens.size(); ++i) {
    dequantize_row(table, static_cast<size_t>(tokens[i]), x.row(i));
  }
  if (model.config().embedding_scale != 1) scale(x, model.config().embedding_scale);
}

Projections project(const LayerPass& pass, std::span<const size_t> positions,
                    Matrix<const float> x) {
  const ModelConfig& c = pass.config();
  const LayerWeights& w = pass.weights();
  const auto normed = room(pass.activations.normed, x.rows, c.width);
  rms_norm(x, w.attention_norm, c.norm_epsilon, normed);
  const auto qkv = room(pass.activations.qkv, x.rows, w.qkv.rows());
  pass.multiply(normed, &LayerWeights::qkv, &PrefillWeights::qkv, qkv);
  const Projections to{
      .queries = as_heads(qkv, 0, c.query_heads, c.key_dim),
      .keys = as_heads(qkv, c.query_heads * c.key_dim, c.kv_heads, c.key_dim),
      .values = as_heads(qkv, (c.query_heads + c.kv_heads) * c.key_dim, c.kv_heads, c.value_dim),
  };
  norm_heads(to.queries, w.query_norm, c.norm_epsilon);
  norm_heads(to.keys, w.key_norm, c.norm_epsilon);
  if (c.rotates(pass.layer)) {
    pass.rope.rotate(to.queries, positions);
    pass.rope.rotate(to.keys, positions);
  }
  return to;
}

Heads<float> attention_outputs(const LayerPass& pass, size_t rows) {
  const ModelConfig& c = pass.config();
  return as_heads(room(pass.activations.attended, rows, c.query_heads * c.value_dim), 0,
                  c.query_heads, c.value_dim);
}

void add_attention(const LayerPass& pass, Matrix<float> x) {
  const ModelConfig& c = pass.config();
  const LayerWeights& w = pass.weights();
  const auto attended = room(pass.activations.attended, x.rows, c.query_heads * c.value_dim);
  const auto projected = room(pass.activations.projected, x.rows, c.width);
  pass.multiply(attended, &LayerWeights::output, &PrefillWeights::output, projected);
  pass.communicator().all_reduce(projected);
  if (!w.attention_post_norm.empty()) {
    rms_norm(projected, w.attention_post_norm, c.norm_epsilon, projected);
  }
  if (c.residual_scale != 1) scale(projected, c.residual_scale);
  add(x, projected);
}

void run_layer(const LayerPass& pass, std::span<const size_t> positions, size_t output_rows,
               Matrix<float> x, Attend attend) {
  const auto [queries, keys, values] = project(pass, positions, x);
  attend(queries, keys, values, attention_outputs(pass, output_rows));
  if (output_rows == 0) return;
  const auto outputs = x.slice(x.rows - output_rows, output_rows);
  add_attention(pass, outputs);
  feed_forward(pass, outputs);
}

Heads<float> layer_queries(const LayerPass& pass, std::span<const size_t> positions,
                           Matrix<const float> x) {
  return project_some(pass, positions, x, 0, pass.config().query_heads, pass.weights().query_norm);
}

Heads<float> layer_keys(const LayerPass& pass, std::span<const size_t> positions,
                        Matrix<const float> x) {
  const ModelConfig& c = pass.config();
  return project_some(pass, positions, x, c.query_heads, c.kv_heads, pass.weights().key_norm);
}

void unembed(const Model& model, Matrix<const float> x, StoredProduct stored, Matrix<float> logits,
             Activations& activations) {
  const ModelConfig& c = model.config();
  const Linear& table = model.weights().lm_head;
  const auto normed = room(activations.normed, x.rows, c.width);
  rms_norm(x, model.weights().output_norm, c.norm_epsilon, normed);
  Communicator& all = *model.weights().communicator;
  const Range rows = share(c.vocabulary, 1, all.rank(), all.size());
  const Matrix<float> own(logits.data + rows.begin, logits.rows, rows.count, logits.stride);
  if (x.rows < kPrefillGemmMinRows) {
    table.multiply_stored(normed, own, stored);
  } else {
    // The table is by far the largest matrix, so it is converted in parts.
    constexpr size_t kPart = 4096;
    AlignedVector<float> dense;
    for (size_t begin = 0; begin < table.rows(); begin += kPart) {
      Weight part = table.parts().front();
      part.data = part.row(begin);
      part.rows = std::min(kPart, table.rows() - begin);
      multiply_dense(normed, Linear({part}).dequantize(dense),
                     {own.data + begin, own.rows, part.rows, own.stride});
    }
  }
  if (!table.bias().empty()) add_bias(own, table.bias());
  all.gather_columns(logits);
  if (c.logit_divisor != 1) scale(logits, 1 / c.logit_divisor);
  if (c.final_softcap > 0) softcap(logits, c.final_softcap);
}

}  // namespace restkv
