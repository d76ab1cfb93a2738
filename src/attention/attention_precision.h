#pragma once

#include "restkv/precision.h"

namespace restkv {

/// Whether this processor has instructions for the precision.
bool supports(AttentionPrecision precision);
/// Throws `Error` (kUnsupported, with the remedy) if not.
void require_support(AttentionPrecision precision);

}  // namespace restkv
