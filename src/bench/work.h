#pragma once

#include <cstddef>

#include "restkv/compress.h"
#include "restkv/model.h"

/// Minimum work of a computation, for comparison with the machine's limits.
namespace restkv::bench {

/// Multiplications and additions of a prompt of `tokens`: matrix products, and attention at and
/// below the diagonal, times `density` with sparse prefill. The last layer counts only for the last
/// token, unless the method needs the attention of all tokens.
double prefill_flops(const Model& model, size_t tokens, const CompressionOptions& options,
                     double density = 1);

/// Bytes of the weights that a decoded token reads: all matrices, and one row of the embedding
/// table.
size_t weight_bytes(const Model& model);

}  // namespace restkv::bench
