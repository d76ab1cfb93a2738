#pragma once

#include <cstddef>
#include <span>

#include "restkv/compress.h"
#include "restkv/model.h"
#include "restkv/repeat.h"

/// Minimum work of a computation, for comparison with the machine's limits.
namespace restkv::bench {

/// Multiplications and additions of a prompt of `tokens`: matrix products, and attention at and
/// below the diagonal, times `density` with sparse prefill. The last layer counts only for the last
/// token, unless the method needs the attention of all tokens.
double prefill_flops(const Model& model, size_t tokens, const CompressionOptions& options,
                     double density = 1);

/// The same of the chunks that are repeated behind it.
double repeat_flops(const Model& model, size_t tokens, std::span<const RepeatFeed> feeds);

/// Bytes of the weights that a decoded token reads: all matrices but those of experts that it does
/// not use, and one row of the embedding table.
size_t weight_bytes(const Model& model);

}  // namespace restkv::bench
