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

/// A metadata value as it lies in the file.
struct GgufValue {
  gguf_type type = GGUF_TYPE_COUNT;  ///< Of the value; of the elements, if it is an array.
  bool is_array = false;
  size_t count = 1;  ///< Elements of an array.
  /// Little-endian numbers one after the other; every string is its length (uint64) and its bytes.
  std::string_view bytes;
};

/// Where a tensor lies in the file.
struct GgufTensor {
  ggml_type type = GGML_TYPE_COUNT;
  std::array<uint64_t, GGML_MAX_DIMS> shape{};  ///< Innermost extent first, 1 where there is none.
  uint64_t offset = 0;                          ///< Of its first byte, from the file's.
  uint64_t size = 0;                            ///< In bytes.
};

/// What a GGUF file holds. The views point into the file.
struct GgufIndex {
  std::map<std::string_view, GgufValue> values;
  std::map<std::string_view, GgufTensor> tensors;
};

/// Bytes of a number of this gguf_type; 0 for strings, arrays and what is no type.
size_t gguf_number_size(uint32_t type);

/// Reads everything but the tensors' data and trusts nothing: counts, lengths and offsets are held
/// against the size of the file before they are used, so that a file costs no more memory than a
/// small multiple of its own size. What is wrong, and with which key or tensor, goes to `fail`,
/// which must throw.
///
/// Format: ggml's docs/gguf.md, versions 2 and 3, little-endian.
GgufIndex index_gguf(std::string_view file, const std::function<void(const std::string&)>& fail);

/// The string at the beginning of `bytes`, which is then moved past it. For the bytes of a
/// `GgufValue`, whose lengths were checked.
std::string_view take_gguf_string(std::string_view& bytes);

}  // namespace restkv
