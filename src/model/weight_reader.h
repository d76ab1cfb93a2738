#pragma once

#include <set>
#include <span>
#include <string>
#include <vector>

#include "linear/linear.h"
#include "model/gguf_file.h"

namespace restkv {

/// Reads the tensors of one model and keeps track of unread ones. Every failure throws an `Error`
/// that names the file and the tensor.
class WeightReader {
 public:
  explicit WeightReader(const GgufFile& file) : file_(file) {}

  [[nodiscard]] const GgufFile& file() const { return file_; }
  [[nodiscard]] bool has(const std::string& name) const { return file_.has_tensor(name); }

  /// The tensor `name`; its numbers must be finite.
  std::vector<float> vector(const std::string& name, size_t size);
  /// The tensor `name` + ".weight".
  std::vector<float> norm(const std::string& name, size_t size) {
    return vector(name + ".weight", size);
  }
  /// The tensor `name` + ".bias"; empty if there is none.
  std::vector<float> bias(const std::string& name, size_t size) {
    return biases({&name, 1}, {&size, 1});
  }
  /// A matrix whose rows are looked up.
  Weight table(const std::string& name, size_t rows, size_t cols);
  /// The stacked tensors `names` + ".weight" [rows, cols], with biases if the file has them.
  Linear linear(std::span<const std::string> names, std::span<const size_t> rows, size_t cols);
  Linear linear(const std::string& name, size_t rows, size_t cols) {
    return linear({&name, 1}, {&rows, 1}, cols);
  }
  /// A matrix whose numbers must be finite.
  Linear finite_linear(const std::string& name, size_t rows, size_t cols);
  /// The matrices of `count` experts. Each is a slice of the tensors `names` + ".weight" [count,
  /// rows, cols], stacked, with biases [count, rows] if the file has them.
  std::vector<Linear> experts(std::span<const std::string> names, std::span<const size_t> rows,
                              size_t cols, size_t count);
  /// The fused tensor if the file has it, otherwise the parts. A fused tensor may have biases of
  /// the parts.
  Linear fused_or_parts(const std::string& fused, std::span<const std::string> names,
                        std::span<const size_t> rows, size_t cols);

  /// Types of the matrices read so far: "Q4_1, F32".
  [[nodiscard]] std::string types() const;

  /// Numbers in the tensors read so far.
  [[nodiscard]] size_t weights() const { return weights_; }

  /// Throws `Error` if the file has unread tensors that change logits: without them the result
  /// would be that of another model.
  void refuse_what_was_not_read(const std::string& architecture, size_t layers) const;

 private:
  Weight read(const std::string& name, size_t rows, size_t cols, size_t count = 1);
  /// The tensor `name` + ".scale" of a matrix in NVFP4, whose own scales reach up to 448 only; 1
  /// without it. Those of other types, which no converter writes, stay unread.
  float scale(const std::string& name, ggml_type type);
  void require_finite(const Weight& weight, const std::string& name) const;
  std::vector<Weight> matrices(std::span<const std::string> names, std::span<const size_t> rows,
                               size_t cols);
  std::vector<float> biases(std::span<const std::string> names, std::span<const size_t> rows);
  [[nodiscard]] bool changes_nothing(const std::string& name) const;

  const GgufFile& file_;
  std::set<std::string> read_;   // names
  std::set<std::string> types_;  // of matrices
  size_t weights_ = 0;
};

}  // namespace restkv
