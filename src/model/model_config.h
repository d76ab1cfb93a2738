#pragma once

#include "model/architecture.h"
#include "model/gguf_file.h"
#include "restkv/model.h"

namespace restkv {

/// The architecture of a file. Throws `Error` (kUnsupported) for unknown ones, and for files that
/// are not complete models.
const Architecture& read_architecture(const GgufFile& file);

/// Sizes and constants from a file's metadata.
ModelConfig read_config(const GgufFile& file, const Architecture& architecture);

/// Scales RoPE and the context by the user's options. Throws `Error` (kInvalidArgument) for unknown
/// scalings, and for files that scale their context themselves.
void stretch_context(const GgufFile& file, const Architecture& architecture,
                     const ModelOptions& options, ModelConfig& c);

}  // namespace restkv
