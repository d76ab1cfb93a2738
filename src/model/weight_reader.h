#pragma once

#include <set>
#include <span>
#include <string>
#include <vector>

#include "linear/linear.h"
#include "model/gguf_file.h"

namespace restkv {

/// Reads the tensors of one model, and knows at the end which ones nobody has asked for. Every
/// failure throws `Error` that names the file and the tensor.
class WeightReader {
 public:
  explicit WeightReader(const GgufFile& file) : file_(file) {}

  [[nodiscard]] const GgufFile& file() const { return file_; }
  [[nodiscard]] bool has(const std::string& name) const { return file_.has_tensor(name); }

  /// The tensor `name`, finite numbers.
  std::vector<float> vector(const std::string& name, size_t size);
  /// The tensor `name` + ".weight".
  std::vector<float> norm(const std::string& name, size_t size) {
    return vector(name + ".weight", size);
  }
  /// The tensor `name` + ".bias"; none where there is none.
  std::vector<float> bias(const std::string& name, size_t size) {
    return biases({&name, 1}, {&size, 1});
  }
  /// A matrix whose rows are looked up.
  Weight table(const std::string& name, size_t rows, size_t cols);
  /// Of tensors named `names` + ".weight" [rows, cols], stacked. Biases may be there or not.
  Linear linear(std::span<const std::string> names, std::span<const size_t> rows, size_t cols);
  Linear linear(const std::string& name, size_t rows, size_t cols) {
    return linear({&name, 1}, {&rows, 1}, cols);
  }
  /// The first of two forms that files have: one fused tensor, or the parts. A fused one may still
  /// have the biases of its parts.
  Linear fused_or_parts(const std::string& fused, std::span<const std::string> names,
                        std::span<const size_t> rows, size_t cols);

  /// Of the matrices of products read so far: "Q4_1, F32".
  [[nodiscard]] std::string types() const;

  /// Throws `Error` if the file has tensors that were not read, except those that do not change
  /// logits. A model computed without them would be another one.
  void refuse_what_was_not_read(const std::string& architecture, size_t layers) const;

 private:
  Weight read(const std::string& name, size_t rows, size_t cols);
  std::vector<Weight> matrices(std::span<const std::string> names, std::span<const size_t> rows,
                               size_t cols);
  std::vector<float> biases(std::span<const std::string> names, std::span<const size_t> rows);
  [[nodiscard]] bool changes_nothing(const std::string& name) const;

  const GgufFile& file_;
  std::set<std::string> read_;   // names
  std::set<std::string> types_;  // of matrices
};

}  // namespace restkv
