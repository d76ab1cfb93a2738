#pragma once

#include <ggml.h>

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "restkv/aligned.h"
#include "restkv/views.h"

namespace restkv {

/// A view of a weight matrix of a GGUF file, or of some of its rows or columns: `rows` output
/// features of `cols` inputs. Each row is stored in blocks of a ggml type.
struct Weight {
  const void* data = nullptr;
  ggml_type type = GGML_TYPE_F32;
  size_t rows = 0;
  size_t cols = 0;
  /// The bytes belong to a mapped file: their memory can be released and is read again when
  /// touched.
  bool in_file = false;
  float scale = 1;    ///< All numbers are multiplied by it. For types that are not packed (NVFP4).
  size_t stride = 0;  ///< Bytes from row to row, of a view of columns; 0: rows follow one another.

  [[nodiscard]] size_t row_bytes() const { return ggml_row_size(type, static_cast<int64_t>(cols)); }
  [[nodiscard]] size_t row_stride() const { return stride > 0 ? stride : row_bytes(); }
  [[nodiscard]] const void* row(size_t r) const {
    return static_cast<const char*>(data) + r * row_stride();
  }
  /// Bytes from the beginning of a row to the end of the last of `count` rows, at least one.
  [[nodiscard]] size_t span_bytes(size_t count) const {
    return (count - 1) * row_stride() + row_bytes();
  }
};

/// Prefetch distance in bytes: some microseconds of a thread's memory bandwidth. Prefetching past a
/// chunk reaches the next one; past the end of the matrix it is harmless.
inline constexpr size_t kWeightsAhead = size_t{8} * 1024;

/// Whether rows of this type can be converted to float32 and multiplied in place.
bool is_supported(ggml_type type);

/// Row `r` of `weight` as float32.
void dequantize_row(const Weight& weight, size_t r, float* out);

/// How products use the stored weights.
enum class StoredProduct {
  kFastest,         ///< As measured, by type and number of rows; only a few rows of x are rounded.
  kFastestRounded,  ///< Likewise, but packed weights use rounded x for any number of rows.
  kRounded,   ///< x is rounded to 8-bit blocks (16 bits for 16-bit weights) and multiplied with
              ///< packed quants, or with rows of the file by ggml's dot products.
  kUnpacked,  ///< A few weight rows at a time become float32 in the cache, for all rows of x.
};

class Linear;
class PackedWeight;

/// Rows [first, first + count) of x, which are multiplied with a weight of their own.
struct RowsOfLinear {
  const Linear* linear = nullptr;
  size_t first = 0;
  size_t count = 0;
};

/// y = x W^T for weights stacked along their outputs (Q, K and V; gate and up), so that one product
/// computes them together. The weights must have equal `cols` and may differ in type.
class Linear {
 public:
  Linear() = default;
  /// `bias` is [rows] or empty. Products do not add it; the caller does.
  explicit Linear(std::vector<Weight> parts, std::vector<float> bias = {});

  [[nodiscard]] size_t rows() const { return rows_; }
  [[nodiscard]] size_t cols() const { return parts_.empty() ? 0 : parts_.front().cols; }
  [[nodiscard]] const std::vector<Weight>& parts() const { return parts_; }
  [[nodiscard]] std::span<const float> bias() const { return bias_; }

  /// Row `r` of all parts as float32.
  void unpack(size_t r, float* out) const;

  /// Whether all parts have types that are packed for single tokens on this processor.
  [[nodiscard]] bool can_be_packed() const;

  /// Releases the memory of file pages that have packed copies. Call after another component has
  /// read the file's pages.
  void release_file() const;

  /// The weight as float32 [rows, cols], made in `storage` unless the file stores it so.
  Matrix<const float> dequantize(AlignedVector<float>& storage) const;

  /// y [n, rows] = x [n, cols] W^T in the stored types. The number of rows influences a row of y
  /// only through the choice of the product. The first product in `kRounded` makes packed copies if
  /// there is memory for them: see PackedWeight.
  void multiply_stored(Matrix<const float> x, Matrix<float> y,
                       StoredProduct how = StoredProduct::kFastest) const;

  /// The same for several weights of equal shape, each with rows of x of its own. All products are
  /// one parallel loop, so that a few rows for each of many weights keep all threads busy.
  static void multiply_each_stored(std::span<const RowsOfLinear> products, Matrix<const float> x,
                                   Matrix<float> y, StoredProduct how);

 private:
  /// Copies of the parts that can be packed, made on first use.
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

/// From this many rows of x on, dequantising the whole weight and calling oneDNN is faster than any
/// product in the stored type (`linear_bench few` prints both).
inline constexpr size_t kPrefillGemmMinRows = 128;

/// The same for products in 8 bits, where products of packed weights stay faster for longer.
inline constexpr size_t kInt8GemmMinRows = 256;

}  // namespace restkv
