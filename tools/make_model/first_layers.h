#pragma once

#include <cstddef>
#include <string>

namespace restkv {

/// Copies the model at `source` without the layers from `layers` on to `path`, which appears whole
/// or not at all. What the first layers do is what they do in the whole model, so that time, memory
/// and attention patterns of a layer can be measured at lengths that a whole model takes hours for;
/// the text is nonsense. Throws Error: kInput naming the source if it is no readable GGUF model,
/// kInvalidArgument if it has fewer layers, kIo.
void write_first_layers(const std::string& source, size_t layers, const std::string& path);

}  // namespace restkv
