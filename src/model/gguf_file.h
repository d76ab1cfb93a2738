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
///
/// A model may be split into several files with names as in `SplitName`: the first one, by which it
/// is opened, has the metadata, and all have tensors. As libllama does, this goes by the keys
/// `split.no`, `split.count` and `split.tensors.count`.
class GgufFile {
 public:
  /// Opens the file and, if it is the first part of a split model, all other parts.
  explicit GgufFile(const std::string& path);

  [[nodiscard]] const std::string& path() const { return path_; }
  /// Bytes of the file; of a split model, those of each part.
  [[nodiscard]] std::vector<std::string_view> parts() const;
  /// Bytes of all parts.
  [[nodiscard]] size_t size() const;
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
  struct Alone {};
  /// The file by itself, also if it is a part.
  GgufFile(const std::string& path, Alone alone);
  /// Adds the tensors of all other parts.
  void join_parts();
  /// The names of all parts, which must be there.
  [[nodiscard]] std::vector<std::string> part_paths(size_t count) const;
  /// Refuses a part that does not belong behind the `number` parts of `first`.
  void require_part_of(const GgufFile& first, size_t number, size_t count) const;
  [[nodiscard]] const GgufValue* find(const std::string& key) const;

  std::string path_;
  std::vector<MappedFile> files_;  // one for each part
  GgufIndex index_;
};

}  // namespace restkv
