#pragma once

#include "model/layer_pass.h"

namespace restkv {

/// out [n, C] += what the layer's router and its experts make of x [n, C]. Every expert is
/// multiplied with the rows that chose it; no other expert is read or converted.
void add_experts(const LayerPass& pass, Matrix<const float> x, Matrix<float> out);

}  // namespace restkv
