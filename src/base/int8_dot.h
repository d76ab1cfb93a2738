#pragma once

namespace restkv {

/// Whether this processor has dot products of bytes (AVX512-VNNI, AVX-VNNI) for the instruction set
/// that kernels run on: see base/int8_dot-inl.h.
bool has_int8_dot();

}  // namespace restkv
