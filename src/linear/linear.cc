#include "linear/linear.h"

#include <fmt/format.h>
#include <ggml-cpu.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <optional>
#include <utility>

#include "base/memory.h"
#include "base/pages.h"
#include "base/prefetch.h"
#include "base/threads.h"
#include "linear/few_rows.h"
#include "linear/onednn_task.h"
#include "linear/packed_weight.h"
#include "linear/tiles.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// The product of a part of a weight: by its packed copy, by unpacked rows, or else by rows of the
/// file.
struct PartProduct {
  const PackedWeight* packed = nullptr;
  bool unpacks = false;
};

/// x converted to the types that ggml's dot products with the stored weights need, one buffer per
/// type, and rounded for packed weights.
class PartnerInputs {
 public:
  void begin(Matrix<const float> x) {
    x_ = x;
    done_ = {};
    rounded_done_ = first_sums_done_ = false;
    products.clear();
  }
  /// Converts x for rows stored in the type `weights`.
  void convert(ggml_type weights) {
    const ggml_type partner = ggml_get_type_traits_cpu(weights)->vec_dot_type;
    if (partner == GGML_TYPE_F32 || done_[partner]) return;
    done_[partner] = true;
    const auto from_float = ggml_get_type_traits_cpu(partner)->from_float;
    const size_t bytes = row_bytes(partner);
    AlignedVector<char>& rows = converted_[partner];
    if (rows.size() < x_.rows * bytes) rows.resize(x_.rows * bytes);
    for (size_t i = 0; i < x_.rows; ++i) {
      from_float(x_.row(i), rows.data() + i * bytes, static_cast<int64_t>(x_.cols));
    }
  }
  /// Rounds x for a packed weight.
  void round(const PackedWeight& weight) {
    if (!std::exchange(rounded_done_, true)) rounded_.round(x_);
    if (weight.needs_first_sums() && !std::exchange(first_sums_done_, true)) {
      rounded_.add_first_sums();
    }
  }
  /// The rows in a ggml type, `row_bytes(type)` apart.
  [[nodiscard]] const char* rows(ggml_type type) const {
    return type == GGML_TYPE_F32 ? reinterpret_cast<const char*>(x_.data) : converted_[type].data();
  }
  [[nodiscard]] size_t row_bytes(ggml_type type) const {
    return type == GGML_TYPE_F32 ? x_.stride * sizeof(float)
                                 : ggml_row_size(type, static_cast<int64_t>(x_.cols));
  }
  [[nodiscard]] const QuantizedRows& rounded() const { return rounded_; }

  std::vector<PartProduct> products;  ///< One for each part of each weight.

 private:
  Matrix<const float> x_;
  std::array<AlignedVector<char>, GGML_TYPE_COUNT> converted_;
  std::array<bool, GGML_TYPE_COUNT> done_{};
  QuantizedRows rounded_;
  bool rounded_done_ = false;
  bool first_sums_done_ = false;
};

/// Rows [begin, end) of a stored weight times the rows of x from `first` on, by ggml's dot
/// products. A dot product takes some hundred cycles, so everything else is computed outside of the
/// loop.
void multiply_dots(const PartnerInputs& inputs, size_t first, const Weight& weight, size_t begin,
                   size_t end, Matrix<float> y) {
  const ggml_type_traits_cpu& traits = *ggml_get_type_traits_cpu(weight.type);
  const auto dot = traits.vec_dot;
  const int n = static_cast<int>(weight.cols);
  const size_t weight_bytes = weight.row_bytes();
  const size_t weight_stride = weight.row_stride();
  const size_t input_bytes = inputs.row_bytes(traits.vec_dot_type);
  const auto* row = static_cast<const char*>(weight.row(begin));
  for (size_t r = begin; r < end; ++r, row += weight_stride) {
    prefetch(row + kWeightsAhead, weight_bytes);
    const char* input = inputs.rows(traits.vec_dot_type) + first * input_bytes;
    for (size_t i = 0; i < y.rows; ++i, input += input_bytes) {
      dot(n, y.row(i) + (r - begin), 0, row, 0, input, 0, 1);
    }
  }
  if (weight.scale == 1) return;
  for (size_t i = 0; i < y.rows; ++i) {
    for (size_t r = 0; r < end - begin; ++r) y.row(i)[r] *= weight.scale;
  }
}

/// Number of rows of x from which on unpacking each stored row once for all of them is faster than
/// unpacking it for each (`linear_bench few` prints both).
size_t unpack_from_rows(ggml_type type) {
  if (PackedWeight::supports(type)) return 8;
  switch (type) {
    case GGML_TYPE_Q4_1:
      return 3;
    case GGML_TYPE_Q4_0:
      return 4;
    case GGML_TYPE_Q8_0:
    case GGML_TYPE_F16:
      return 5;
    case GGML_TYPE_Q4_K:
    case GGML_TYPE_Q6_K:
    case GGML_TYPE_MXFP4:
      return 6;
    default:
      return 16;  // ggml's plain conversion
  }
}

}  // namespace

struct Linear::Packed {
  std::once_flag made;
  std::vector<std::optional<PackedWeight>> parts;
};

bool is_supported(ggml_type type) {
  if (type < 0 || type >= GGML_TYPE_COUNT) return false;
  if (type == GGML_TYPE_F32) return true;
  return ggml_get_type_traits(type)->to_float != nullptr &&
         ggml_get_type_traits_cpu(type)->vec_dot != nullptr;
}

void dequantize_row(const Weight& weight, size_t r, float* out) { unpack_row(weight, r, out); }

Linear::Linear(std::vector<Weight> parts, std::vector<float> bias)
    : parts_(std::move(parts)), bias_(std::move(bias)), packed_(std::make_shared<Packed>()) {
  for (const Weight& part : parts_) rows_ += part.rows;
}

void Linear::unpack(size_t r, float* out) const {
  const Weight* part = parts_.data();
  for (; r >= part->rows; ++part) r -= part->rows;
  unpack_row(*part, r, out);
}

Matrix<const float> Linear::dequantize(AlignedVector<float>& storage) const {
  if (parts_.size() == 1 && parts_[0].type == GGML_TYPE_F32) {
    return {static_cast<const float*>(parts_[0].data), rows_, cols(),
            parts_[0].row_stride() / sizeof(float)};
  }
  storage.resize(rows_ * cols());
  for_each_row(rows_, [&](size_t r) { unpack(r, storage.data() + r * cols()); });
  return {storage.data(), rows_, cols()};
}

const PackedWeight* Linear::packed(size_t part) const {
  if (!PackedWeight::supports(parts_[part].type)) return nullptr;
  std::call_once(packed_->made, [this] {
    size_t bytes = 0;
    for (const Weight& weight : parts_) bytes += weight.rows * weight.row_bytes();
    // Without memory for copies, products read the file.
    constexpr size_t kSpare = size_t{256} << 20;
    if (available_memory() < bytes + kSpare) return;
    std::vector<std::optional<PackedWeight>> copies(parts_.size());
    for (size_t i = 0; i < parts_.size(); ++i) {
      if (PackedWeight::supports(parts_[i].type)) copies[i].emplace(parts_[i]);
    }
    packed_->parts = std::move(copies);
    release_file();
  });
  if (packed_->parts.empty()) return nullptr;
  const auto& copy = packed_->parts[part];
  return copy ? &*copy : nullptr;
}

bool Linear::can_be_packed() const {
  return std::all_of(parts_.begin(), parts_.end(),
                     [](const Weight& part) { return PackedWeight::supports(part.type); });
}

void Linear::release_file() const {
  for (size_t i = 0; i < packed_->parts.size(); ++i) {
    if (!parts_[i].in_file || !packed_->parts[i]) continue;
    release_pages(parts_[i].data, parts_[i].span_bytes(parts_[i].rows));
  }
}

void Linear::multiply_stored(Matrix<const float> x, Matrix<float> y, StoredProduct how) const {
  const RowsOfLinear all{.linear = this, .first = 0, .count = x.rows};
  multiply_each_stored({&all, 1}, x, y, how);
}

void Linear::multiply_each_stored(std::span<const RowsOfLinear> products, Matrix<const float> x,
                                  Matrix<float> y, StoredProduct how) {
  thread_local PartnerInputs inputs;  // reused between calls
  inputs.begin(x);
  size_t all_rows = 0;
  for (const auto& [linear, first, count] : products) {
    all_rows += linear->rows_;
    for (size_t i = 0; i < linear->parts_.size(); ++i) {
      const ggml_type type = linear->parts_[i].type;
      const bool many = count >= unpack_from_rows(type);
      PartProduct product;
      product.unpacks = how == StoredProduct::kUnpacked || (how == StoredProduct::kFastest && many);
      if (!product.unpacks) product.packed = linear->packed(i);
      if (how == StoredProduct::kFastestRounded) {
        product.unpacks = many && product.packed == nullptr;
      }
      if (product.packed != nullptr) {
        inputs.round(*product.packed);
      } else if (!product.unpacks) {
        inputs.convert(type);
      }
      inputs.products.push_back(product);
    }
  }
  // Chunks are whole panels within one part. They are small, so that no thread waits long for the
  // last one.
  const size_t share = all_rows / (static_cast<size_t>(num_threads()) * 8);
  const size_t chunk =
      std::clamp<size_t>(share, 32, 1024) / PackedWeight::kPanel * PackedWeight::kPanel;
  const auto chunks = [chunk](const Weight& part) { return (part.rows + chunk - 1) / chunk; };
  size_t tasks = 0;
  for (const RowsOfLinear& product : products) {
    for (const Weight& part : product.linear->parts_) tasks += chunks(part);
  }
  const PartnerInputs& shared = inputs;  // tasks would see their own thread_locals
  const auto multiply_chunk = [&](size_t task, size_t) {
    const RowsOfLinear* rows = products.data();
    const PartProduct* product = shared.products.data();
    size_t i = 0;
    size_t output = 0;
    while (task >= chunks(rows->linear->parts_[i])) {
      task -= chunks(rows->linear->parts_[i]);
      output += rows->linear->parts_[i].rows;
      ++product;
      if (++i < rows->linear->parts_.size()) continue;
      ++rows;
      i = output = 0;
    }
    const Weight& part = rows->linear->parts_[i];
    const size_t begin = task * chunk;
    const size_t end = std::min(part.rows, begin + chunk);
    const Matrix<float> columns(y.row(rows->first) + output + begin, rows->count, end - begin,
                                y.stride);
    if (product->unpacks) {
      multiply_unpacked(x.slice(rows->first, rows->count), part, begin, end, columns);
    } else if (product->packed != nullptr) {
      product->packed->multiply(shared.rounded().view().from(rows->first), begin, end, columns);
    } else {
      multiply_dots(shared, rows->first, part, begin, end, columns);
    }
  };
  parallel_for(tasks, multiply_chunk, Sharing::kRuns);
}

void multiply_dense(Matrix<const float> x, Matrix<const float> w, Matrix<float> y) {
  const auto size = [](size_t v) { return static_cast<dnnl_dim_t>(v); };
  for_each_tile(x.rows, w.rows, [&](size_t row, size_t rows, size_t column, size_t columns) {
    const OneDnnTask alone;
    const dnnl_status_t status = dnnl_sgemm(
        'N', 'T', size(rows), size(columns), size(x.cols), 1.0F, x.row(row), size(x.stride),
        w.row(column), size(w.stride), 0.0F, y.row(row) + column, size(y.stride));
    if (status != dnnl_success) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("oneDNN refused a {} x {} x {} matrix product (status {})", rows,
                              columns, x.cols, static_cast<int>(status)));
    }
  });
}

}  // namespace restkv
