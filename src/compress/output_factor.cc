#include <fmt/format.h>

#include <cmath>
#include <vector>

#include "base/threads.h"
#include "compress/cholesky.h"
#include "restkv/aligned.h"
#include "restkv/compress.h"
#include "restkv/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/output_factor.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "base/gemm-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// gram = block^T block, upper triangle, in double; block is W_h [width, d]. gram is
/// [d, gram_stride] with gram_stride >= d a multiple of 8.
void GramMatrix(Matrix<const float> block, double* HWY_RESTRICT gram, size_t gram_stride) {
  constexpr size_t kDepth = 64;  // rows of W_h per step
  constexpr size_t kStrip = 24;  // rows of the Gram matrix per product, whole vectors too
  const hn::CappedTag<double, 8> d;
  const size_t dim = block.cols;
  AlignedVector<double> rows(kDepth * gram_stride, 0.0);
  AlignedVector<double> turned(dim * kDepth, 0.0);
  for (size_t c = 0; c < block.rows; c += kDepth) {
    const size_t depth = HWY_MIN(kDepth, block.rows - c);
    for (size_t k = 0; k < depth; ++k) {
      const float* w = block.row(c + k);
      for (size_t j = 0; j < dim; ++j) {
        rows[k * gram_stride + j] = double{w[j]};
        turned[j * kDepth + k] = double{w[j]};
      }
    }
    for (size_t i = 0; i < dim; i += kStrip) {
      // Columns left of the diagonal are unused.
      SmallProduct<true>(d, HWY_MIN(kStrip, dim - i), gram_stride - i, depth,
                         turned.data() + i * kDepth, kDepth, rows.data() + i, gram_stride,
                         gram + i * gram_stride + i, gram_stride);
    }
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {
namespace {

HWY_EXPORT(GramMatrix);

}  // namespace

OutputFactor::OutputFactor(Matrix<const float> wo, size_t query_heads, size_t head_dim)
    : heads_(query_heads), dim_(head_dim), r_(query_heads * head_dim * head_dim) {
  if (wo.cols != query_heads * head_dim) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("output projection has {} columns, but {} query heads of size {} need "
                            "{}; pass W_O as [width, query_heads * head_dim]",
                            wo.cols, query_heads, head_dim, query_heads * head_dim));
  }
  const size_t stride = (head_dim + 7) / 8 * 8;
  parallel_for(query_heads, [&](size_t h, size_t) {
    AlignedVector<double> gram(head_dim * stride, 0.0);
    HWY_DYNAMIC_DISPATCH(GramMatrix)
    ({wo.data + h * head_dim, wo.rows, head_dim, wo.stride}, gram.data(), stride);
    for (size_t i = 0; i < head_dim; ++i) {
      if (!std::isfinite(gram[i * stride + i])) {
        throw Error(ErrorCode::kInput,
                    fmt::format("output projection of query head {} holds NaN or infinity in "
                                "column {}; the model file is damaged",
                                h, h * head_dim + i));
      }
    }
    cholesky(gram.data(), head_dim, stride);
    float* r = r_.data() + h * head_dim * head_dim;
    for (size_t i = 0; i < head_dim; ++i) {
      for (size_t j = i; j < head_dim; ++j) {
        r[i * head_dim + j] = static_cast<float>(gram[i * stride + j]);
      }
    }
  });
}

}  // namespace restkv
#endif
