#include "model/feed_forward.h"

namespace restkv {

void feed_forward(const LayerPass& pass, Matrix<float> x) {
  const ModelConfig& c = pass.config();
  const LayerWeights& w = pass.weights();
  Activations& a = pass.activations;
  const auto normed = room(a.normed, x.rows, c.width);
  rms_norm(x, w.ffn_norm, c.norm_epsilon, normed);
  const auto gate_up = room(a.gate_up, x.rows, w.gate_up.rows());
  pass.multiply(normed, &LayerWeights::gate_up, &PrefillWeights::gate_up, gate_up);
  gate_multiply(gate_up, pass.model.weights().architecture->activation);
  const auto projected = room(a.projected, x.rows, c.width);
  pass.multiply({gate_up.data, x.rows, c.ffn_width, gate_up.stride}, &LayerWeights::down,
                &PrefillWeights::down, projected);
  pass.communicator.all_reduce(projected);
  if (!w.ffn_post_norm.empty()) rms_norm(projected, w.ffn_post_norm, c.norm_epsilon, projected);
  add(x, projected);
}

}  // namespace restkv
