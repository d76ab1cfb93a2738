#pragma once

#include <cstdint>
#include <span>

#include "base/threads.h"
#include "linear/prompt_weight.h"
#include "model/ops.h"
#include "model/weights.h"
#include "restkv/aligned.h"
#include "restkv/model.h"
#include "restkv/views.h"

/// The transformer, from token ids to logits, in three steps: embed, run_layer for each layer,
/// unembed. Prompts and single tokens go through the same code; only the attention they are given
/// differs.
namespace restkv {

/// One layer's matrices in the precision in which prompts are multiplied, made once per prompt and
/// used by all its tokens.
struct DenseLayer {
  PromptWeight qkv, output, gate_up, down;

  void make(const LayerWeights& layer, LinearPrecision precision);
};

/// Activations of one block of tokens.
struct Activations {
  AlignedVector<float> normed, qkv, attended, projected, gate_up;
};

/// Receives a block's queries [H, rows, d], keys [G, rows, d] and values [G, rows, dv], rotated,
/// and writes the attention output of the last `out.rows` rows (0 of them: only keys and values
/// are wanted).
using Attend = FunctionRef<void(Heads<const float> queries, Heads<const float> keys,
                                Heads<const float> values, Heads<float> out)>;

/// x [n, C] = rows of the embedding table. Throws `Error` (kInvalidArgument) on an id outside it.
void embed(const Model& model, std::span<const int32_t> tokens, Matrix<float> x);

/// One layer, in place: x += attention(norm(x)), x += ffn(norm(x)). Row i stands at
/// `positions[i]`. Only the last `wanted` rows of x become outputs; the others only serve as keys
/// and values. `dense` may be null: then matrices are multiplied in their stored types, as `stored`
/// says.
void run_layer(const Model& model, size_t layer, const DenseLayer* dense, StoredProduct stored,
               RopeTable& rope, std::span<const size_t> positions, size_t wanted, Matrix<float> x,
               Activations& scratch, Attend attend);

/// Queries [H, rows, d] or keys [G, rows, d] of hidden rows x [rows, C], rotated, as `run_layer`
/// computes them from the same rows: for attention that must know some before its first block.
/// Valid until `scratch` is used again.
Heads<float> layer_queries(const Model& model, size_t layer, const DenseLayer& dense,
                           RopeTable& rope, std::span<const size_t> positions,
                           Matrix<const float> x, Activations& scratch);
Heads<float> layer_keys(const Model& model, size_t layer, const DenseLayer& dense, RopeTable& rope,
                        std::span<const size_t> positions, Matrix<const float> x,
                        Activations& scratch);

/// logits [n, V] of hidden rows x [n, C]. Few rows are multiplied as `stored` says.
void unembed(const Model& model, Matrix<const float> x, StoredProduct stored, Matrix<float> logits,
             Activations& scratch);

}  // namespace restkv
