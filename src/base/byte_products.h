#pragma once

namespace restkv {

/// Whether this processor multiplies bytes (AVX512-VNNI, AVX-VNNI), on the instruction set that
/// kernels run on: see base/byte_products-inl.h.
bool has_byte_products();

}  // namespace restkv
