#include <algorithm>
#include <cmath>

#include "base/threads.h"
#include "fmt/format.h"
#include "restkv/aligned.h"
#include "restkv/attention.h"
#include "restkv/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/decode_attention.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "base/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// Rows whose weights are computed before they meet the values: small enough for L1, a multiple of
/// every vector length.
constexpr size_t kBlockRows = 64;
/// Rows per task: long heads are split, so that one long head cannot idle the other threads.
constexpr size_t kChunkRows = 2048;
/// Query heads of a group that share one pass over the rows, bounded by registers.
constexpr size_t kMaxGroup = 4;

/// Partial softmax over rows [begin, end) of one cache head: per query head of its group the
/// maximum, the sum of the weights and the weighted sum of the values [group, dv].
struct Partial {
  size_t head, begin, end;
  float* maximum;
  float* sum;
  float* out;
};

/// Loads stored elements (half precision bits or floats) as floats.
template <class D>
HWY_INLINE hn::Vec<D> LoadStored(D d, const uint16_t* p) {
  const hn::Rebind<hwy::float16_t, D> dh;
  return hn::PromoteTo(d, hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(p)));
}
template <class D>
HWY_INLINE hn::Vec<D> LoadStored(D d, const float* p) {
  return hn::LoadU(d, p);
}
template <class Stored>
HWY_INLINE float LoadOne(const Stored* p) {
  return hn::GetLane(LoadStored(hn::CappedTag<float, 1>(), p));
}

/// logits[h][row] = q_h . k_row for kGroup query heads and `rows` rows.
template <size_t kGroup, class D, class Stored>
HWY_INLINE void Logits(D d, const float* HWY_RESTRICT q, size_t q_stride,
                       const Stored* HWY_RESTRICT keys, size_t dim, size_t rows,
                       float* HWY_RESTRICT logits) {
  constexpr size_t kLanes = hn::MaxLanes(D());
  for (size_t row = 0; row < rows; ++row) {
    const Stored* k = keys + row * dim;
    hn::Vec<D> sum[kGroup];
    for (size_t h = 0; h < kGroup; ++h) sum[h] = hn::Zero(d);
    size_t c = 0;
    for (; c + kLanes <= dim; c += kLanes) {
      const auto x = LoadStored(d, k + c);
      for (size_t h = 0; h < kGroup; ++h) {
        sum[h] = hn::MulAdd(hn::LoadU(d, q + h * q_stride + c), x, sum[h]);
      }
    }
    for (size_t h = 0; h < kGroup; ++h) {
      logits[h * kBlockRows + row] = hn::GetLane(hn::SumOfLanes(d, sum[h]));
    }
    for (; c < dim; ++c) {
      const float x = LoadOne(k + c);
      for (size_t h = 0; h < kGroup; ++h) {
        logits[h * kBlockRows + row] += q[h * q_stride + c] * x;
      }
    }
  }
}

/// out[h][c..c + kVectors * lanes) += sum over rows of weights[h][row] * v_row[c..].
template <size_t kGroup, size_t kVectors, class D, class Stored>
HWY_INLINE void AddValues(D d, const float* HWY_RESTRICT weights, const Stored* HWY_RESTRICT values,
                          size_t dim, size_t rows, float* HWY_RESTRICT out, size_t out_stride) {
  constexpr size_t kLanes = hn::MaxLanes(D());
  hn::Vec<D> sum[kGroup][kVectors];
  for (size_t h = 0; h < kGroup; ++h) {
    for (size_t j = 0; j < kVectors; ++j) {
      sum[h][j] = hn::LoadU(d, out + h * out_stride + j * kLanes);
    }
  }
  for (size_t row = 0; row < rows; ++row) {
    hn::Vec<D> v[kVectors];
    for (size_t j = 0; j < kVectors; ++j) v[j] = LoadStored(d, values + row * dim + j * kLanes);
    for (size_t h = 0; h < kGroup; ++h) {
      const auto w = hn::Set(d, weights[h * kBlockRows + row]);
      for (size_t j = 0; j < kVectors; ++j) sum[h][j] = hn::MulAdd(w, v[j], sum[h][j]);
    }
  }
  for (size_t h = 0; h < kGroup; ++h) {
    for (size_t j = 0; j < kVectors; ++j) {
      hn::StoreU(sum[h][j], d, out + h * out_stride + j * kLanes);
    }
  }
}

/// Fills `partial` for kGroup query heads starting at `q`.
template <size_t kGroup, class Stored>
void DecodeChunk(const float* q, size_t q_stride, const CachedHead& head, size_t dim,
                 size_t value_dim, float scale, float softcap, const Partial& partial) {
  float* out = partial.out;
  const hn::CappedTag<float, 16> d;
  constexpr size_t kLanes = hn::MaxLanes(hn::CappedTag<float, 16>());
  HWY_ALIGN float weights[kGroup * kBlockRows];
  std::fill_n(out, kGroup * value_dim, 0.0F);
  for (size_t h = 0; h < kGroup; ++h) {
    partial.maximum[h] = -1.0e30F;
    partial.sum[h] = 0.0F;
  }
  for (size_t begin = partial.begin; begin < partial.end; begin += kBlockRows) {
    const size_t rows = std::min(kBlockRows, partial.end - begin);
    Logits<kGroup>(d, q, q_stride, static_cast<const Stored*>(head.keys) + begin * dim, dim, rows,
                   weights);
    for (size_t h = 0; h < kGroup; ++h) {
      float* w = weights + h * kBlockRows;
      std::fill(w + rows, w + kBlockRows, -2.0e30F);
      auto top = hn::Set(d, -2.0e30F);
      for (size_t j = 0; j < kBlockRows; j += kLanes) {
        auto z = hn::Mul(hn::Load(d, w + j), hn::Set(d, scale));
        if (softcap > 0) {
          z = hn::Mul(hn::Set(d, softcap), Tanh(d, hn::Mul(z, hn::Set(d, 1.0F / softcap))));
          // Padding must not come back as a finite logit.
          z = hn::IfThenElse(
              hn::Lt(hn::Iota(d, static_cast<float>(j)), hn::Set(d, static_cast<float>(rows))), z,
              hn::Set(d, -2.0e30F));
        }
        hn::Store(z, d, w + j);
        top = hn::Max(top, z);
      }
      const float raised = std::max(partial.maximum[h], hn::GetLane(hn::MaxOfLanes(d, top)));
      if (raised > partial.maximum[h]) {
        const float factor = hn::GetLane(Exp(d, hn::Set(d, partial.maximum[h] - raised)));
        partial.maximum[h] = raised;
        partial.sum[h] *= factor;
        for (size_t c = 0; c < value_dim; ++c) out[h * value_dim + c] *= factor;
      }
      auto total = hn::Zero(d);
      for (size_t j = 0; j < kBlockRows; j += kLanes) {
        auto x = Exp(d, hn::Sub(hn::Load(d, w + j), hn::Set(d, raised)));
        x = hn::IfThenElseZero(
            hn::Lt(hn::Iota(d, static_cast<float>(j)), hn::Set(d, static_cast<float>(rows))), x);
        hn::Store(x, d, w + j);
        total = hn::Add(total, x);
      }
      partial.sum[h] += hn::GetLane(hn::SumOfLanes(d, total));
    }
    const Stored* values = static_cast<const Stored*>(head.values) + begin * value_dim;
    size_t c = 0;
    for (; c + 4 * kLanes <= value_dim; c += 4 * kLanes) {
      AddValues<kGroup, 4>(d, weights, values + c, value_dim, rows, out + c, value_dim);
    }
    for (; c + kLanes <= value_dim; c += kLanes) {
      AddValues<kGroup, 1>(d, weights, values + c, value_dim, rows, out + c, value_dim);
    }
    for (; c < value_dim; ++c) {
      for (size_t row = 0; row < rows; ++row) {
        const float v = LoadOne(values + row * value_dim + c);
        for (size_t h = 0; h < kGroup; ++h) {
          out[h * value_dim + c] += weights[h * kBlockRows + row] * v;
        }
      }
    }
  }
}

void DecodeAttention(const Matrix<const float>& queries, std::span<const CachedHead> heads,
                     float scale, float softcap, const Matrix<float>& out) {
  const size_t group = queries.rows / heads.size();
  const size_t dim = queries.cols;
  const size_t value_dim = out.cols;

  std::vector<Partial> partials;
  for (size_t h = 0; h < heads.size(); ++h) {
    size_t begin = 0;
    do {  // a head without rows still gets one (empty) part, which yields zeros
      const size_t end = std::min(begin + kChunkRows, heads[h].count);
      partials.push_back({h, begin, end, nullptr, nullptr, nullptr});
      begin = end;
    } while (begin < heads[h].count);
  }
  AlignedVector<float> memory(partials.size() * group * (value_dim + 2));
  for (size_t i = 0; i < partials.size(); ++i) {
    partials[i].maximum = memory.data() + i * group * (value_dim + 2);
    partials[i].sum = partials[i].maximum + group;
    partials[i].out = partials[i].sum + group;
  }

  parallel_for(partials.size(), [&](size_t task, size_t) {
    Partial part = partials[task];
    const CachedHead& head = heads[part.head];
    for (size_t h = 0; h < group;) {
      const float* q = queries.row(part.head * group + h);
      const size_t step = std::min(kMaxGroup, group - h);
      const auto run = [&]<size_t kGroup>() {
        const auto chunk =
            head.type == KvType::kF16 ? DecodeChunk<kGroup, uint16_t> : DecodeChunk<kGroup, float>;
        chunk(q, queries.stride, head, dim, value_dim, scale, softcap, part);
      };
      switch (step) {
        case 1:
          run.template operator()<1>();
          break;
        case 2:
          run.template operator()<2>();
          break;
        case 3:
          run.template operator()<3>();
          break;
        default:
          run.template operator()<4>();
          break;
      }
      h += step;
      part.maximum += step;
      part.sum += step;
      part.out += step * value_dim;
    }
  });

  // Merge the chunks of each head: softmax is associative once maxima are aligned.
  for (size_t i = 0; i < partials.size();) {
    size_t last = i;
    while (last < partials.size() && partials[last].head == partials[i].head) ++last;
    for (size_t h = 0; h < group; ++h) {
      float maximum = partials[i].maximum[h];
      for (size_t p = i + 1; p < last; ++p) maximum = std::max(maximum, partials[p].maximum[h]);
      float* target = out.row(partials[i].head * group + h);
      std::fill_n(target, value_dim, 0.0F);
      float total = 0.0F;
      for (size_t p = i; p < last; ++p) {
        const float factor = std::exp(partials[p].maximum[h] - maximum);
        total += factor * partials[p].sum[h];
        const float* part = partials[p].out + h * value_dim;
        for (size_t c = 0; c < value_dim; ++c) target[c] += factor * part[c];
      }
      const float inverse = total > 0 ? 1.0F / total : 0.0F;
      for (size_t c = 0; c < value_dim; ++c) target[c] *= inverse;
    }
    i = last;
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(DecodeAttention);

void decode_attention(Matrix<const float> queries, std::span<const CachedHead> heads,
                      const AttentionOptions& options, Matrix<float> out) {
  if (heads.empty() || queries.rows % heads.size() != 0 || out.rows != queries.rows) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("decode_attention: shapes do not fit: queries [{}, {}], {} cache "
                            "heads, out [{}, {}]",
                            queries.rows, queries.cols, heads.size(), out.rows, out.cols));
  }
  const float scale =
      options.scale > 0 ? options.scale : 1.0F / std::sqrt(static_cast<float>(queries.cols));
  HWY_DYNAMIC_DISPATCH(DecodeAttention)(queries, heads, scale, options.softcap, out);
}

}  // namespace restkv
#endif  // HWY_ONCE
