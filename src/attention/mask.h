#pragma once

#include <cstddef>
#include <string_view>

#include "restkv/attention.h"

namespace restkv {

/// Throws `Error` (kInvalidArgument), naming `function`, unless the mask is empty or covers queries
/// [heads, rows] from position `first` on.
void check_mask(std::string_view function, const TileMask& mask, size_t heads, size_t rows,
                size_t first, const AttentionOptions& options);

/// Throws `Error` (kInvalidArgument), naming `function`, unless the options have no biases or those
/// of `keys` keys of `heads` KV heads.
void check_bias(std::string_view function, const AttentionOptions& options, size_t heads,
                size_t keys);

/// Throws `Error` (kInvalidArgument), naming `function`, unless the options have no sinks or one
/// for each of the query heads.
void check_sinks(std::string_view function, const AttentionOptions& options, size_t query_heads);

}  // namespace restkv
