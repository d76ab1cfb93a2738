#pragma once

#include <optional>
#include <string>

#include "restkv/compress.h"
#include "support/golden.h"

namespace restkv::testing {

/// Options for a golden case's parameters, or none and the reason if its method or allocation does
/// not exist. A case of kvpress must have been loaded, because its budget is a share of the prompt.
std::optional<CompressionOptions> golden_options(const GoldenCase& golden, std::string& reason);

}  // namespace restkv::testing
