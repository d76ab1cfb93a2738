#pragma once

#include <cstdint>
#include <span>

#include "base/threads.h"
#include "model/layer_pass.h"
#include "restkv/model.h"
#include "restkv/views.h"

/// The transformer from token ids to logits in three steps: embed, run_layer for each layer,
/// unembed. Prompts and single tokens use the same code with different attention functions.
namespace restkv {

/// Receives a block's queries [H, rows, d], keys [G, rows, d] and values [G, rows, dv], rotated,
/// and writes the attention output of the last `out.rows` rows (0: only keys and values are used).
using Attend = FunctionRef<void(Heads<const float> queries, Heads<const float> keys,
                                Heads<const float> values, Heads<float> out)>;

/// Throws `Error` (kInvalidArgument) on an id outside the vocabulary.
void check_tokens(const Model& model, std::span<const int32_t> tokens);

/// x [n, C] = rows of the embedding table. Throws as `check_tokens` does.
void embed(const Model& model, std::span<const int32_t> tokens, Matrix<float> x);

/// One layer, in place: x += attention(norm(x)), x += ffn(norm(x)). Row i of x has the position
/// `positions[i]`. Only the last `output_rows` rows of x become outputs; the others serve as keys
/// and values only.
void run_layer(const LayerPass& pass, std::span<const size_t> positions, size_t output_rows,
               Matrix<float> x, Attend attend);

// The parts of a layer, for prompts that pause between them. What they return is in the pass's
// activations.

/// What attention reads of a block of rows: queries [H, rows, d], keys [G, rows, d] and values
/// [G, rows, dv], rotated.
struct Projections {
  Heads<float> queries, keys, values;
};
/// Those of norm(x).
Projections project(const LayerPass& pass, std::span<const size_t> positions,
                    Matrix<const float> x);
/// Room for the attention's outputs, [H, rows, dv].
Heads<float> attention_outputs(const LayerPass& pass, size_t rows);
/// x [rows, C] += output projection of the attention's outputs. feed_forward.h follows.
void add_attention(const LayerPass& pass, Matrix<float> x);

/// Rotated queries [H, rows, d] or keys [G, rows, d] of hidden rows x [rows, C], equal to those of
/// `run_layer` with converted weights. For attention that needs them before its first block. Valid
/// until the activations are used again.
Heads<float> layer_queries(const LayerPass& pass, std::span<const size_t> positions,
                           Matrix<const float> x);
Heads<float> layer_keys(const LayerPass& pass, std::span<const size_t> positions,
                        Matrix<const float> x);

/// logits [n, V] of hidden rows x [n, C]. Few rows are multiplied as `stored` says.
void unembed(const Model& model, Matrix<const float> x, StoredProduct stored, Matrix<float> logits,
             Activations& activations);

}  // namespace restkv
