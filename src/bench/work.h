#pragma once

#include <cstddef>

#include "restkv/compress.h"
#include "restkv/model.h"

/// How much work the machine cannot be spared, for comparison with what it can do.
namespace restkv::bench {

/// Multiplications and additions of reading a prompt of `tokens`: matrix products, and attention at
/// and below the diagonal, of which a sparse prefill computes the part `density`. In the last layer
/// only what the next token depends on counts, unless the method looks at the attention of all
/// tokens.
double prefill_flops(const Model& model, size_t tokens, const CompressionOptions& options,
                     double density = 1);

/// Bytes of the weights that every decoded token passes through: all matrices, but of the embedding
/// table only its row.
size_t weight_bytes(const Model& model);

}  // namespace restkv::bench
