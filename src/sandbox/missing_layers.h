#pragma once

#include <array>
#include <string>
#include <vector>

#include "sandbox/messages.h"
#include "sandbox/sandbox.h"

namespace restkv::eval {

/// Reasons for missing layers, by `Layer`; empty: not requested.
using LayerReasons = std::array<std::string, static_cast<size_t>(Layer::kNone)>;

/// Whether `layer` (not kNone) is on.
bool& layer_flag(SandboxLayers& layers, Layer layer);

/// The first of `Layer` that is on; kNone if none is.
Layer first_layer(SandboxLayers layers);

/// Descriptions of the layers missing from `layers`. With `stays_root` the separate user is
/// missing, too.
std::vector<MissingLayer> missing_layers(const SandboxLayers& layers, const LayerReasons& reasons,
                                         bool stays_root);

}  // namespace restkv::eval
