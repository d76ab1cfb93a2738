#include "linear/linear.h"

#include <fmt/format.h>
#include <ggml-cpu.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/prefetch.h"
#include "base/threads.h"
#include "linear/few_rows.h"
#include "linear/onednn_task.h"
#include "linear/tiles.h"
#include "linear/vnni_product.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// x in the types that the stored weights want to be multiplied with, one buffer per type, and one
/// for our own product.
class PartnerInputs {
 public:
  void begin(Matrix<const float> x) {
    x_ = x;
    done_ = {};
  }
  void convert(ggml_type weights) {
    if (const VnniProduct* vnni = find_vnni_product(weights)) {
      convert(kVnni, vnni->row_bytes(x_.cols),
              [&](const float* row, char* to) { vnni->round(row, x_.cols, to); });
      return;
    }
    const ggml_type partner = ggml_get_type_traits_cpu(weights)->vec_dot_type;
    if (partner == GGML_TYPE_F32) return;
    const auto from_float = ggml_get_type_traits_cpu(partner)->from_float;
    convert(partner, row_bytes(partner), [&](const float* row, char* to) {
      from_float(row, to, static_cast<int64_t>(x_.cols));
    });
  }
  /// The rows in a type of ggml's, one every `row_bytes(type)`.
  [[nodiscard]] const char* rows(ggml_type type) const {
    return type == GGML_TYPE_F32 ? reinterpret_cast<const char*>(x_.data) : converted_[type].data();
  }
  [[nodiscard]] size_t row_bytes(ggml_type type) const {
    return type == GGML_TYPE_F32 ? x_.stride * sizeof(float)
                                 : ggml_row_size(type, static_cast<int64_t>(x_.cols));
  }
  /// The rows for `VnniProduct`.
  [[nodiscard]] const char* for_vnni() const { return converted_[kVnni].data(); }

 private:
  static constexpr size_t kVnni = GGML_TYPE_COUNT;

  template <class Convert>
  void convert(size_t kind, size_t bytes, const Convert& convert_row) {
    if (done_[kind]) return;
    done_[kind] = true;
    AlignedVector<char>& rows = converted_[kind];
    if (rows.size() < x_.rows * bytes) rows.resize(x_.rows * bytes);
    for (size_t i = 0; i < x_.rows; ++i) convert_row(x_.row(i), rows.data() + i * bytes);
  }

  Matrix<const float> x_;
  std::array<AlignedVector<char>, GGML_TYPE_COUNT + 1> converted_;
  std::array<bool, GGML_TYPE_COUNT + 1> done_{};
};

/// Rows [begin, end) of a stored weight times x, both as they are: by our product or by ggml's dot
/// products. A dot product takes some hundred cycles: even asking ggml for the size of a row each
/// time would show.
void multiply_rounded(const PartnerInputs& inputs, const Weight& weight, size_t begin, size_t end,
                      Matrix<float> y) {
  if (const VnniProduct* vnni = find_vnni_product(weight.type)) {
    vnni->multiply(weight, begin, end, inputs.for_vnni(), y);
    return;
  }
  const ggml_type_traits_cpu& traits = *ggml_get_type_traits_cpu(weight.type);
  const auto dot = traits.vec_dot;
  const int n = static_cast<int>(weight.cols);
  const size_t weight_bytes = weight.row_bytes();
  const size_t input_bytes = inputs.row_bytes(traits.vec_dot_type);
  const auto* row = static_cast<const char*>(weight.row(begin));
  for (size_t r = begin; r < end; ++r, row += weight_bytes) {
    prefetch(row + kWeightsAhead, weight_bytes);
    const char* input = inputs.rows(traits.vec_dot_type);
    for (size_t i = 0; i < y.rows; ++i, input += input_bytes) {
      dot(n, y.row(i) + (r - begin), 0, row, 0, input, 0, 1);
    }
  }
}

/// From how many rows of x on unpacking each stored row once for all of them is faster than
/// products that unpack it for each (`linear_bench few` prints both).
size_t unpack_from_rows(ggml_type type) {
  if (find_vnni_product(type) != nullptr) return 8;
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
      return 6;
    default:
      return 16;  // ggml's plain conversion
  }
}

}  // namespace

bool is_supported(ggml_type type) {
  if (type < 0 || type >= GGML_TYPE_COUNT) return false;
  if (type == GGML_TYPE_F32) return true;
  return ggml_get_type_traits(type)->to_float != nullptr &&
         ggml_get_type_traits_cpu(type)->vec_dot != nullptr;
}

void dequantize_row(const Weight& weight, size_t r, float* out) { unpack_row(weight, r, out); }

Linear::Linear(std::vector<Weight> parts, std::vector<float> bias)
    : parts_(std::move(parts)), bias_(std::move(bias)) {
  for (const Weight& part : parts_) rows_ += part.rows;
}

void Linear::unpack(size_t r, float* out) const {
  const Weight* part = parts_.data();
  for (; r >= part->rows; ++part) r -= part->rows;
  unpack_row(*part, r, out);
}

Matrix<const float> Linear::densify(AlignedVector<float>& storage) const {
  if (parts_.size() == 1 && parts_[0].type == GGML_TYPE_F32) {
    return {static_cast<const float*>(parts_[0].data), rows_, cols()};
  }
  storage.resize(rows_ * cols());
  for_each_row(rows_, [&](size_t r) { unpack(r, storage.data() + r * cols()); });
  return {storage.data(), rows_, cols()};
}

void Linear::multiply_stored(Matrix<const float> x, Matrix<float> y, StoredProduct how) const {
  const auto unpacks = [&](const Weight& part) {
    if (how == StoredProduct::kFastest) return x.rows >= unpack_from_rows(part.type);
    return how == StoredProduct::kUnpacked;
  };
  thread_local PartnerInputs inputs;  // kept from call to call
  inputs.begin(x);
  for (const Weight& part : parts_) {
    if (!unpacks(part)) inputs.convert(part.type);
  }
  // Chunks never cross parts. They are small, so that no thread waits long for the last one.
  const size_t chunk =
      std::clamp<size_t>(rows_ / (static_cast<size_t>(num_threads()) * 8), 32, 1024);
  const auto chunks = [chunk](const Weight& part) { return (part.rows + chunk - 1) / chunk; };
  size_t tasks = 0;
  for (const Weight& part : parts_) tasks += chunks(part);
  const PartnerInputs& shared = inputs;  // the tasks' own thread_locals are others
  const auto multiply_chunk = [&](size_t task, size_t) {
    const Weight* part = parts_.data();
    size_t output = 0;
    for (; task >= chunks(*part); ++part) {
      task -= chunks(*part);
      output += part->rows;
    }
    const size_t begin = task * chunk;
    const size_t end = std::min(part->rows, begin + chunk);
    const Matrix<float> columns(y.data + output + begin, y.rows, end - begin, y.stride);
    if (unpacks(*part)) {
      multiply_unpacked(x, *part, begin, end, columns);
    } else {
      multiply_rounded(shared, *part, begin, end, columns);
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
