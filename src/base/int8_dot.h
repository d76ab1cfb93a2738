#pragma once

namespace restkv {

/// Whether this processor multiplies bytes (AVX512-VNNI, AVX-VNNI), on the instruction set that
/// kernels run on: see base/int8_dot-inl.h.
bool has_int8_dot();

}  // namespace restkv
