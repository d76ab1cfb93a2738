#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace restkv::testing {

/// A GGUF file split into its parts, so that tests can corrupt one part and write the rest
/// unchanged. Fields are written without checks.
struct RawGguf {
  struct Value {
    std::string key;
    uint32_t type = 0;          // of the value, or 9 for an array
    uint32_t element_type = 0;  // of an array
    uint64_t count = 0;         // of an array's elements
    std::string bytes;          // of the number, string or elements, as in the file
  };
  struct Tensor {
    std::string name;
    std::vector<uint64_t> shape;
    uint32_t type = 0;
    uint64_t offset = 0;
  };

  uint32_t version = 3;
  std::vector<Value> values;
  std::vector<Tensor> tensors;
  std::string data;  // of all tensors
  uint64_t alignment = 32;
  /// Added to the numbers of entries in the header.
  int64_t extra_values = 0;
  int64_t extra_tensors = 0;

  /// Splits the bytes of a valid file.
  static RawGguf parse(std::string_view file);
  [[nodiscard]] std::string bytes() const;

  Value* find(std::string_view key);
  /// Replaces the value of a key or adds it.
  void set_number(const std::string& key, uint32_t type, uint64_t bits);
  void set_string(const std::string& key, std::string_view text);
  void set_strings(const std::string& key, const std::vector<std::string>& list);
  void set_float(const std::string& key, float value);
  /// `bytes` are the elements.
  void set_array(const std::string& key, uint32_t element_type, uint64_t count, std::string bytes);
  void remove(std::string_view key);
  /// Puts another name of an architecture before its keys.
  void rename_architecture(const std::string& from, const std::string& to);
  /// Adds a tensor with one dimension behind the others.
  void add_floats(const std::string& name, const std::vector<float>& values);
};

/// `size` low bytes of a number, lowest first.
std::string little_endian(uint64_t value, size_t size);
/// A string in the encoding of a GGUF file.
std::string gguf_string(std::string_view text);

}  // namespace restkv::testing
