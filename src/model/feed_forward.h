#pragma once

#include "model/layer_pass.h"

namespace restkv {

/// x [n, C] += ffn(norm(x)): a gated feed-forward network.
void feed_forward(const LayerPass& pass, Matrix<float> x);

}  // namespace restkv
