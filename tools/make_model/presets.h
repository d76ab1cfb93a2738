#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "make_model/random_model.h"

namespace restkv {

/// A predefined shape: that of a published model, or a tiny one with all properties of a family
/// (and rows of 256, for K-quants).
struct Preset {
  std::string_view name;
  std::string_view what;
  RandomModel model;
};

const std::vector<Preset>& presets();

/// Throws Error (kInvalidArgument) that lists the names.
RandomModel find_preset(std::string_view name);

}  // namespace restkv
