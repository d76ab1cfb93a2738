#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "linear/linear.h"
#include "model/gguf_index.h"

namespace restkv {

/// A GGUF file, memory-mapped: typed metadata and bounds-checked tensors. Every failure throws
/// `Error` (kInput) that names the file and the key or tensor.
class GgufFile {
 public:
  explicit GgufFile(const std::string& path);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string_view bytes() const { return file_.bytes(); }
  [[nodiscard]] const GgufIndex& index() const { return index_; }

  [[nodiscard]] std::optional<std::string> find_string(const std::string& key) const;
  /// Any integer type. Refuses arrays and values outside [0, 2^31).
  [[nodiscard]] std::optional<int64_t> find_integer(const std::string& key) const;
  [[nodiscard]] std::optional<double> find_number(const std::string& key) const;
  /// The numbers of an array, up to 65536, or a single value; booleans are 0 and 1.
  [[nodiscard]] std::optional<std::vector<double>> find_numbers(const std::string& key) const;
  /// Whether the key exists and holds an array, for keys that may hold an array or a single value.
  [[nodiscard]] bool is_array(const std::string& key) const;
  [[nodiscard]] std::optional<size_t> find_array_length(const std::string& key) const;
  /// Strings that point into the file.
  [[nodiscard]] std::optional<std::vector<std::string_view>> find_strings(
      const std::string& key) const;
  /// An array of signed 32-bit integers.
  [[nodiscard]] std::optional<std::vector<int32_t>> find_integers(const std::string& key) const;
  [[nodiscard]] std::string string(const std::string& key) const;

  [[nodiscard]] bool has_tensor(const std::string& name) const;
  /// A matrix of exactly `rows` x `cols`; a vector is a matrix of one row.
  /// With `count` the tensor has three dimensions, and the matrices follow one another.
  [[nodiscard]] Weight tensor(const std::string& name, size_t rows, size_t cols,
                              size_t count = 1) const;

  [[noreturn]] void fail(const std::string& what) const;

 private:
  [[nodiscard]] const GgufValue* find(const std::string& key) const;

  std::string path_;
  MappedFile file_;
  GgufIndex index_;
};

}  // namespace restkv
