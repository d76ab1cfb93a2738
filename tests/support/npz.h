#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace restkv::testing {

/// One array of an .npz file. float32 members fill `floats`; int8 and int32 members fill `ints`.
struct Array {
  std::vector<size_t> shape;
  std::vector<float> floats;
  std::vector<int32_t> ints;

  [[nodiscard]] size_t size() const {
    size_t n = 1;
    for (const size_t extent : shape) n *= extent;
    return n;
  }
};

/// Arrays by name (without ".npy").
using Arrays = std::map<std::string, Array>;

/// Reads a zip of stored (not compressed) .npy members: format 1.0, C order, little endian, types
/// <f4, <i4 and |i1. Throws std::runtime_error naming the file on anything else.
Arrays read_npz(const std::filesystem::path& path);

}  // namespace restkv::testing
