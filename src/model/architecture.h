#pragma once

#include <string_view>

namespace restkv {

/// Which channels a rotary embedding pairs.
enum class RopeStyle {
  kNeighbours,  ///< (0, 1), (2, 3), ...: what GGUF converters store for `llama`.
  kHalves,      ///< (0, d/2), (1, d/2 + 1), ...: GPT-NeoX order.
};

/// A model family: what distinguishes its forward pass from the others'. Adding a family is adding
/// a row to the table in architecture.cc, and a flag here if it does something new.
struct Architecture {
  std::string_view name;  ///< `general.architecture` of the GGUF file and prefix of its keys.
  std::string_view families;
  RopeStyle rope;
};

/// Throws `Error` (kUnsupported) that lists the known architectures.
const Architecture& find_architecture(std::string_view name);

}  // namespace restkv
