#pragma once

#include "model/architecture.h"
#include "model/gguf_file.h"
#include "restkv/model.h"

namespace restkv {

/// The architecture that a file names. Throws `Error` (kUnsupported) for others, and for files that
/// are no models by themselves.
const Architecture& read_architecture(const GgufFile& file);

/// Sizes and constants from a file's metadata.
ModelConfig read_config(const GgufFile& file, const Architecture& architecture);

/// Stretches RoPE and the context as the user wants it. Throws `Error` (kInvalidArgument) for
/// scalings that there are none of, and for files that stretch their context themselves.
void stretch_context(const GgufFile& file, const Architecture& architecture,
                     const ModelOptions& options, ModelConfig& c);

}  // namespace restkv
