#pragma once

#include <ggml.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace restkv::testing {

/// Whether ggml needs seconds before it rounds the first number to a type: it lists neighbours in
/// grids of thousands of points.
bool is_slow_to_make(ggml_type type);

/// `count` numbers of such a type as random blocks with a standard deviation of `deviation`.
std::string random_blocks(ggml_type type, size_t count, double deviation, uint32_t seed);

}  // namespace restkv::testing
