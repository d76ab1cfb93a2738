#pragma once

#include <ggml.h>

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "restkv/aligned.h"
#include "restkv/views.h"

namespace restkv {

/// A weight matrix as it lies in a GGUF file: `rows` output features of `cols` inputs, each row
/// stored in blocks of a ggml type. Does not own the bytes.
struct Weight {
  const void* data = nullptr;
  ggml_type type = GGML_TYPE_F32;
  size_t rows = 0;
  size_t cols = 0;
  /// The bytes are a mapped file's: their memory can be given back, and is read again when touched.
  bool in_file = false;

  [[nodiscard]] size_t row_bytes() const { return ggml_row_size(type, static_cast<int64_t>(cols)); }
  [[nodiscard]] const void* row(size_t r) const {
    return static_cast<const char*>(data) + r * row_bytes();
  }
};

/// How far ahead of the row being multiplied the next ones are asked for: some microseconds of what
/// a thread reads from memory. Beyond a thread's chunk lies the next chunk, beyond a matrix nothing
/// bad.
inline constexpr size_t kWeightsAhead = size_t{8} * 1024;

/// Whether rows of this type can be converted to float32 and multiplied in place.
bool is_supported(ggml_type type);

/// Row `r` of `weight` as float32.
void dequantize_row(const Weight& weight, size_t r, float* out);

/// How to multiply weights as they are stored.
enum class StoredProduct {
  kFastest,         ///< As measured, by type and number of rows; only a few rows of x are rounded.
  kFastestRounded,  ///< Likewise, but packed weights meet any number of rounded rows.
  kRounded,   ///< x is rounded to 8-bit blocks, for weights of 16 bits to these, and meets the
              ///< codes: packed ones, or those of the file by ggml's dot products.
  kUnpacked,  ///< A few weight rows at a time become float32 in the cache and meet all rows of x.
};

class PackedWeight;

/// y = x W^T for weights stacked along their outputs (Q, K and V; gate and up), so that one product
/// makes what belongs together. The weights must have equal `cols` and may differ in type.
class Linear {
 public:
  Linear() = default;
  /// `bias` [rows], or none, is for the caller to add: products leave it out.
  explicit Linear(std::vector<Weight> parts, std::vector<float> bias = {});

  [[nodiscard]] size_t rows() const { return rows_; }
  [[nodiscard]] size_t cols() const { return parts_.empty() ? 0 : parts_.front().cols; }
  [[nodiscard]] const std::vector<Weight>& parts() const { return parts_; }
  [[nodiscard]] std::span<const float> bias() const { return bias_; }

  /// Row `r` of all parts as float32.
  void unpack(size_t r, float* out) const;

  /// Whether all parts have types that are packed for single tokens on this processor.
  [[nodiscard]] bool can_be_packed() const;

  /// Gives back the memory of what lies in a file and has been copied for single tokens. For those
  /// who have read it for something else.
  void release_file() const;

  /// The float32 form [rows, cols], made in `storage` unless the weight lies in the file like that.
  Matrix<const float> dequantize(AlignedVector<float>& storage) const;

  /// y [n, rows] = x [n, cols] W^T in the stored types. A row of y depends on the number of rows
  /// only by way of the chosen product. The first one in `kRounded` makes copies of what can be
  /// packed, if there is memory for them: see PackedWeight.
  void multiply_stored(Matrix<const float> x, Matrix<float> y,
                       StoredProduct how = StoredProduct::kFastest) const;

 private:
  /// Copies of the parts that can be packed, made when one is first asked for.
  struct Packed;
  /// The copy of a part, or null where there is none.
  [[nodiscard]] const PackedWeight* packed(size_t part) const;

  std::vector<Weight> parts_;
  std::vector<float> bias_;
  size_t rows_ = 0;
  std::shared_ptr<Packed> packed_;
};

/// y [n, rows] = x [n, cols] W^T with a float32 `w` [rows, cols], by oneDNN.
void multiply_dense(Matrix<const float> x, Matrix<const float> w, Matrix<float> y);

/// From this many rows of x on, converting a weight to float32 as a whole and calling oneDNN is
/// faster than any product in the stored type (`linear_bench few` prints both).
inline constexpr size_t kPrefillGemmMinRows = 128;

/// Likewise in 8 bits, where packed weights meet rounded rows faster than others meet floats.
inline constexpr size_t kInt8GemmMinRows = 256;

}  // namespace restkv
