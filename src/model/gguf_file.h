#pragma once

#include <gguf.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "linear/linear.h"

namespace restkv {

/// A GGUF file, memory-mapped: typed metadata and bounds-checked tensors. Every failure throws
/// `Error` (kInput) that names the file and the key or tensor.
class GgufFile {
 public:
  explicit GgufFile(const std::string& path);
  ~GgufFile();
  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] size_t file_bytes() const { return bytes_; }

  [[nodiscard]] std::optional<std::string> find_string(const std::string& key) const;
  /// Any integer type. Refuses arrays and values outside [0, 2^31).
  [[nodiscard]] std::optional<int64_t> find_integer(const std::string& key) const;
  [[nodiscard]] std::optional<double> find_number(const std::string& key) const;
  [[nodiscard]] std::optional<size_t> find_array_length(const std::string& key) const;
  [[nodiscard]] std::string string(const std::string& key) const;
  [[nodiscard]] size_t integer(const std::string& key) const;
  [[nodiscard]] double number(const std::string& key) const;

  [[nodiscard]] bool has_tensor(const std::string& name) const;
  /// A matrix of exactly `rows` x `cols`; a vector is a matrix of one row.
  [[nodiscard]] Weight tensor(const std::string& name, size_t rows, size_t cols) const;

  [[noreturn]] void fail(const std::string& what) const;

 private:
  [[nodiscard]] int64_t find(const std::string& key) const;
  [[nodiscard]] gguf_type scalar_type(int64_t id) const;

  std::string path_;
  void* map_ = nullptr;
  size_t bytes_ = 0;
  std::unique_ptr<gguf_context, decltype(&gguf_free)> gguf_{nullptr, gguf_free};
};

}  // namespace restkv
