#pragma once

#include <optional>
#include <string>

#include "restkv/compress.h"
#include "support/golden.h"

namespace restkv::testing {

/// What a golden case's parameters mean here, or nothing and the reason if its method or allocation
/// does not exist yet. A case of kvpress must have been loaded: its budget is a part of the prompt.
std::optional<CompressionOptions> golden_options(const GoldenCase& golden, std::string& reason);

}  // namespace restkv::testing
