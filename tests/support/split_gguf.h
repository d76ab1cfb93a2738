#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "support/raw_gguf.h"

namespace restkv::testing {

/// The parts that llama-gguf-split makes of a file: the first has all metadata, each some tensors.
std::vector<RawGguf> split_gguf(const RawGguf& whole, size_t parts);

/// Writes the file at `path` once more, split, as "STEM-00001-of-00003.gguf" and so on; returns the
/// paths. `stem` begins with a folder.
std::vector<std::string> write_split(const std::string& path, size_t parts,
                                     const std::string& stem);

}  // namespace restkv::testing
