#pragma once

#include <ggml.h>
#include <gguf.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace restkv {

/// A view of a metadata value in the file.
struct GgufValue {
  gguf_type type = GGUF_TYPE_COUNT;  ///< Type of the value, or of the elements of an array.
  bool is_array = false;
  size_t count = 1;  ///< Elements of an array.
  /// Little-endian numbers, or strings: for each its length (uint64) and its bytes.
  std::string_view bytes;
};

/// Place and shape of a tensor in the file.
struct GgufTensor {
  ggml_type type = GGML_TYPE_COUNT;
  std::array<uint64_t, GGML_MAX_DIMS> shape{};  ///< Innermost extent first, padded with 1.
  uint64_t offset = 0;                          ///< Of its first byte in the file.
  uint64_t size = 0;                            ///< In bytes.
  size_t part = 0;                              ///< Which file of a split model.
};

/// Contents of a GGUF file, or of all files of a split model. The views point into the files.
struct GgufIndex {
  std::map<std::string_view, GgufValue> values;
  std::map<std::string_view, GgufTensor> tensors;
};

/// Bytes of a number of this gguf_type; 0 for strings, arrays and unknown types.
size_t gguf_number_size(uint32_t type);

/// Reads everything but the tensors' data, without trusting the file. Counts, lengths and offsets
/// are checked against the size of the file before use, so memory is limited to a small multiple of
/// that size. Errors, with the key or tensor, go to `fail`, which must throw.
///
/// Format: ggml's docs/gguf.md, versions 2 and 3, little-endian.
GgufIndex index_gguf(std::string_view file, const std::function<void(const std::string&)>& fail);

/// Removes the string at the beginning of `bytes` and returns it. For the bytes of a `GgufValue`,
/// whose lengths were checked.
std::string_view take_gguf_string(std::string_view& bytes);

}  // namespace restkv
