#pragma once

namespace restkv {

/// Whether this processor has dot products of bytes (AVX512-VNNI, AVX-VNNI) for the instruction set
/// that kernels run on: see base/int8_dot-inl.h.
bool has_int8_dot();

/// Whether it multiplies pairs of bytes (AVX2, AVX-512), with sums in 16 bits.
bool has_int8_pairs();

/// Makes `has_int8_dot` false, so that tests and benchmarks run what other processors run.
void disable_int8_dot_for_test(bool disabled);

}  // namespace restkv
