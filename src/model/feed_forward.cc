#include "model/feed_forward.h"

#include <algorithm>

#include "model/experts.h"

namespace restkv {
namespace {

/// out [n, C] = the network that all rows of x [n, C] pass: the layer's only one, or the shared
/// expert.
void dense(const LayerPass& pass, Matrix<const float> x, Matrix<float> out) {
  const LayerWeights& w = pass.weights();
  const auto gate_up = room(pass.activations.gate_up, x.rows, w.gate_up.rows());
  pass.multiply(x, &LayerWeights::gate_up, &PrefillWeights::gate_up, gate_up);
  gate_multiply(gate_up, pass.model.weights().architecture->activation);
  pass.multiply({gate_up.data, x.rows, w.down.cols(), gate_up.stride}, &LayerWeights::down,
                &PrefillWeights::down, out);
}

}  // namespace

void feed_forward(const LayerPass& pass, Matrix<float> x) {
  const ModelConfig& c = pass.config();
  const LayerWeights& w = pass.weights();
  Activations& a = pass.activations;
  const auto normed = room(a.normed, x.rows, c.width);
  rms_norm(x, w.ffn_norm, c.norm_epsilon, normed);
  const auto projected = room(a.projected, x.rows, c.width);
  if (w.gate_up.rows() > 0) {
    dense(pass, normed, projected);
    if (w.experts && !w.experts->shared_gate.empty()) {
      gate_rows(normed, w.experts->shared_gate, projected);
    }
  } else {
    std::fill_n(projected.data, x.rows * c.width, 0.0F);
  }
  if (w.experts) add_experts(pass, normed, projected);
  pass.communicator().all_reduce(projected);
  if (!w.ffn_post_norm.empty()) rms_norm(projected, w.ffn_post_norm, c.norm_epsilon, projected);
  if (c.residual_scale != 1) scale(projected, c.residual_scale);
  add(x, projected);
}

}  // namespace restkv
