#pragma once

#include <cstddef>
#include <string>

namespace restkv {

/// Copies the model at `source` without the layers from `layers` on to `path`, which appears whole
/// or not at all. The first layers compute the same as in the whole model, so time, memory and
/// attention patterns can be measured at lengths that would take hours with the whole model;
/// generated text has no meaning. Throws `Error`: kInput naming the source if it is no readable
/// GGUF model, kInvalidArgument if it has fewer layers, kIo.
void write_first_layers(const std::string& source, size_t layers, const std::string& path);

}  // namespace restkv
