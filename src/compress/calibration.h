#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "restkv/compress.h"
#include "restkv/views.h"

namespace restkv {

/// Means of a query head's queries before rotary embedding, over a text. Each rotated pair of
/// channels counts as a complex number q_f.
struct QueryMeans {
  std::vector<float> real, imaginary;  ///< Mean of q_f, [pairs].
  std::vector<float> magnitude;        ///< Mean of |q_f|, [pairs].
};

/// Predicts the scores of a layer's KV heads from what its attention reads, x [C]:
///   W x + b,  or  W gelu(W1 x + b1) + b  with the exact GELU, x (1 + erf(x / sqrt(2))) / 2.
struct ScoreMap {
  size_t width = 0;                                ///< C.
  std::vector<float> weights, bias;                ///< W [KV heads, C or hidden], b [KV heads].
  std::vector<float> hidden_weights, hidden_bias;  ///< W1 [hidden, C], b1 [hidden]; or empty.
  /// R^2 of each KV head on the texts of the fit; empty: unknown.
  std::vector<float> fit;

  [[nodiscard]] size_t heads() const { return bias.size(); }
  [[nodiscard]] size_t hidden() const { return hidden_bias.size(); }
  /// Scores of the KV heads from `first_head` on for rows [m, C]: out [heads, m].
  void predict(Matrix<const float> rows, size_t first_head, Matrix<float> out) const;
};

/// What is known about a model from texts that it has read, for the option `statistics`.
struct Calibration {
  uint64_t model = 0;       ///< `CacheShape::model`; 0: unknown.
  std::string description;  ///< Of the model, for messages.
  size_t tokens = 0;        ///< Of the texts; 0: unknown.
  /// [layers whose cache is compressed][query heads]; empty: there are none.
  std::vector<std::vector<QueryMeans>> queries;
  /// [layers whose cache is compressed]; empty: there are none.
  std::vector<ScoreMap> scores;
};

[[noreturn]] void refuse_without(const std::string& path, std::string_view part);

/// Reads the file of the option `statistics`; docs/methods.md describes it. A file that has not
/// changed is read once, and one that has gone stays known. Throws `Error`: kInvalidArgument
/// without a path, kInput naming the file and what is wrong in it.
std::shared_ptr<const Calibration> read_calibration(const std::string& path);

/// The file of the option `statistics` if `part` of it is not empty; `what` names that part. Throws
/// as `read_calibration` does, and `Error` (kInput) without the part.
template <class Part>
std::shared_ptr<const Calibration> require_calibration(const CompressionOptions& options,
                                                       Part Calibration::*part,
                                                       std::string_view what) {
  auto calibration = read_calibration(options.statistics);
  if (((*calibration).*part).empty()) refuse_without(options.statistics, what);
  return calibration;
}

/// The content of such a file.
std::string calibration_text(const Calibration& calibration);

/// For `Method::check_shape`: throws `Error` (kInput) if the calibration was made with another
/// model, or `layers`, those of one of its parts, are not the model's.
void require_own_calibration(const Calibration& calibration, const std::string& path, size_t layers,
                             const CacheShape& shape);
/// The same with a reason in words.
[[noreturn]] void refuse_calibration(const std::string& path, const std::string& reason);

}  // namespace restkv
