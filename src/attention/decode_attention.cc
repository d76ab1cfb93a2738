#include <algorithm>
#include <array>
#include <cmath>

#include "attention/mask.h"
#include "attention/softmax_scale.h"
#include "base/prefetch.h"
#include "base/threads.h"
#include "fmt/format.h"
#include "kv/kv_layout.h"
#include "restkv/aligned.h"
#include "restkv/attention.h"
#include "restkv/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/decode_attention.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "base/gemm-inl.h"
#include "base/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

using VectorTag = hn::CappedTag<float, 16>;

/// A head is split into parts of at least this many blocks, so that one long head cannot idle the
/// other threads. All heads together have about `kMaxParts` parts at most.
constexpr size_t kLeastPartBlocks = 8;
constexpr size_t kMaxParts = 256;
/// Query heads of a group that share one pass over the rows, bounded by registers.
constexpr size_t kMaxGroup = 4;
/// Smaller caches are read by one thread: starting a second one takes longer than the work.
constexpr size_t kSerialBytes = 64 * 1024;
/// The logit of masked positions and the initial running maximum. Both are finite, so that
/// differences never become NaN.
constexpr float kNoLogit = -2.0e30F;
constexpr float kNoMaximum = -1.0e30F;
/// The running maximum is raised only when a logit exceeds it by this much. Weights stay far from
/// overflow, and sums are rarely rescaled.
constexpr float kMaxSlack = 6.0F;
/// Partial sums of weights, one per vector lane.
constexpr size_t kSumLanes = 16;

/// Blocks [begin, end) of one cache head, residual rows counted as blocks, and the partial softmax
/// over them: per query head the maximum, the sum of the weights and the weighted sum of the
/// values.
struct Part {
  size_t head, begin, end;
  float* maximum;  // [group]
  float* sum;      // [group, kSumLanes]
  float* out;      // [group, dv]
};

/// Inputs shared by all parts.
struct Problem {
  Matrix<const float> queries;
  size_t group;  // query heads per cache head
  KvLayout layout;
  float scale, softcap;
  std::span<const float> sink_logits;  // [query heads] or empty
  Matrix<float> weights;  // [query heads, rows] or empty; logits until the parts are merged
};

/// The visible rows [begin, end) of a block. The first of them is row `row` of the head.
struct VisibleRows {
  size_t begin, end, row;
  const float* bias;  // [kBlockRows] or null
};

/// Memory of one thread.
struct TaskMemory {
  float* folded;  // [kMaxGroup, d]: queries times the scales of a block
  float* block;   // residual rows as a block of floats
};

/// Prefetch distance: whole blocks, enough of them to hide the latency of memory.
HWY_INLINE size_t BytesAhead(const KvLayout& layout) {
  constexpr size_t kLeast = 16 * 1024;
  return hwy::RoundUpTo(kLeast, layout.block_bytes());
}

template <class D>
HWY_INLINE hn::Vec<D> LoadHalves(D d, const void* p) {
  const hn::Rebind<hwy::float16_t, D> dh;
  return hn::PromoteTo(d, hn::LoadU(dh, static_cast<const hwy::float16_t*>(p)));
}

/// Loads stored elements (the quants of quantised types) from `index` on as floats. 4-bit quants
/// come two to a byte: `high` selects the upper ones.
template <KvType kType, class D>
HWY_INLINE hn::Vec<D> LoadElements(D d, const std::byte* elements, size_t index, bool high) {
  if constexpr (kType == KvType::kF32) {
    return hn::LoadU(d, reinterpret_cast<const float*>(elements) + index);
  } else if constexpr (kType == KvType::kF16) {
    return LoadHalves(d, elements + index * sizeof(uint16_t));
  } else {
    const hn::RebindToSigned<D> di;
    const hn::Rebind<uint8_t, D> du8;
    const auto bytes =
        hn::PromoteTo(di, hn::LoadU(du8, reinterpret_cast<const uint8_t*>(elements) + index));
    if constexpr (kType == KvType::kQ8) return hn::ConvertTo(d, bytes);
    return hn::ConvertTo(d, high ? hn::ShiftRight<4>(bytes) : hn::And(bytes, hn::Set(di, 15)));
  }
}

/// Vectors of sums per query head. They share the registers with one element of every head and one
/// vector of the cache. Sums take at most 12 of the 16 registers of AVX2; 8 keep both multipliers
/// busy.
template <size_t kGroup>
constexpr size_t KeyVectors() {
  return HWY_TARGET == HWY_AVX2 && kGroup < kMaxGroup ? 4 : 2;
}
template <size_t kGroup>
constexpr size_t ValueVectors() {
  return HWY_TARGET == HWY_AVX2 && kGroup == kMaxGroup ? 2 : 4;
}

/// logits[h][row] = bias[h] + q_h . k_row for the kBlockRows rows of a block. Meanwhile the memory
/// `ahead` bytes further is prefetched in sequential order, an equal share per iteration: keys are
/// read more than once, and the memory bus must not idle during that.
template <size_t kGroup, KvType kType>
HWY_INLINE void KeyProducts(const float* HWY_RESTRICT q, size_t q_stride,
                            const std::byte* HWY_RESTRICT keys, size_t dim, size_t ahead,
                            const float* HWY_RESTRICT bias, float* HWY_RESTRICT logits) {
  const VectorTag d;
  constexpr size_t kLanes = hn::MaxLanes(VectorTag());
  constexpr size_t kVectors = KeyVectors<kGroup>();
  constexpr size_t kChannelBytes = kBlockRows * element_bits(kType) / 8;
  constexpr size_t kStep = kVectors * kLanes;
  static_assert(kBlockRows % kStep == 0);
  for (size_t row = 0; row < kBlockRows; row += kStep) {
    hn::Vec<VectorTag> sum[kGroup][kVectors];
#pragma GCC unroll 8
    for (size_t h = 0; h < kGroup; ++h) {
      for (size_t j = 0; j < kVectors; ++j) sum[h][j] = hn::Set(d, bias[h]);
    }
#pragma GCC unroll 2
    for (size_t c = 0; c < dim; ++c) {
      prefetch(
          keys + ahead + row * dim * element_bits(kType) / 8 + c * kStep * element_bits(kType) / 8,
          kStep * element_bits(kType) / 8);
      hn::Vec<VectorTag> x[kGroup];
#pragma GCC unroll 8
      for (size_t h = 0; h < kGroup; ++h) x[h] = hn::Set(d, q[h * q_stride + c]);
#pragma GCC unroll 8
      for (size_t j = 0; j < kVectors; ++j) {
        const size_t position = row + j * kLanes;
        const bool high = kType == KvType::kQ4 && position >= kBlockRows / 2;
        const auto k = LoadElements<kType>(d, keys + c * kChannelBytes,
                                           position - (high ? kBlockRows / 2 : 0), high);
#pragma GCC unroll 8
        for (size_t h = 0; h < kGroup; ++h) sum[h][j] = hn::MulAdd(x[h], k, sum[h][j]);
      }
    }
#pragma GCC unroll 8
    for (size_t h = 0; h < kGroup; ++h) {
      for (size_t j = 0; j < kVectors; ++j) {
        hn::StoreU(sum[h][j], d, logits + h * kBlockRows + row + j * kLanes);
      }
    }
  }
}

/// Logits of one block. A quantised key is min + scale * quant in every channel. The scale is
/// folded into the query and the min into a constant, so no key is unpacked.
template <size_t kGroup, KvType kType>
HWY_INLINE void BlockLogits(const float* HWY_RESTRICT q, size_t q_stride, const std::byte* keys,
                            const KvLayout& layout, float* HWY_RESTRICT folded,
                            float* HWY_RESTRICT logits) {
  const size_t ahead = BytesAhead(layout);
  std::array<float, kGroup> bias{};
  if constexpr (is_quantized(kType)) {
    const size_t dim = layout.key_dim;
    const auto* scales = reinterpret_cast<const uint16_t*>(keys + layout.key_element_bytes());
    const VectorTag d;
    constexpr size_t kLanes = hn::MaxLanes(VectorTag());
    hn::Vec<VectorTag> constants[kGroup];
    for (size_t h = 0; h < kGroup; ++h) constants[h] = hn::Zero(d);
    size_t c = 0;
    for (; c + kLanes <= dim; c += kLanes) {
      const auto scale = LoadHalves(d, scales + c);
      const auto min = LoadHalves(d, scales + dim + c);
      for (size_t h = 0; h < kGroup; ++h) {
        const auto x = hn::LoadU(d, q + h * q_stride + c);
        hn::StoreU(hn::Mul(x, scale), d, folded + h * dim + c);
        constants[h] = hn::MulAdd(x, min, constants[h]);
      }
    }
    for (size_t h = 0; h < kGroup; ++h) bias[h] = hn::GetLane(hn::SumOfLanes(d, constants[h]));
    for (; c < dim; ++c) {
      const hn::CappedTag<float, 1> d1;
      const float scale = hn::GetLane(LoadHalves(d1, scales + c));
      const float min = hn::GetLane(LoadHalves(d1, scales + dim + c));
      for (size_t h = 0; h < kGroup; ++h) {
        folded[h * dim + c] = q[h * q_stride + c] * scale;
        bias[h] += q[h * q_stride + c] * min;
      }
    }
    KeyProducts<kGroup, kType>(folded, dim, keys, dim, ahead, bias.data(), logits);
  } else {
    KeyProducts<kGroup, kType>(q, q_stride, keys, layout.key_dim, ahead, bias.data(), logits);
  }
}

/// out[h][0..kVectors * lanes) += sum over the rows of a block of weights[h][row] * value_row,
/// where the values are the columns of a slice from `column` on. Memory `ahead` bytes further is
/// prefetched, as with keys.
template <size_t kGroup, size_t kVectors, KvType kType, class D>
HWY_INLINE void AddValues(D d, const float* HWY_RESTRICT weights,
                          const std::byte* HWY_RESTRICT slice, size_t channels, size_t column,
                          size_t ahead, float* HWY_RESTRICT out, size_t out_stride) {
  constexpr size_t kLanes = hn::MaxLanes(D());
  constexpr size_t kColumnBytes = kVectors * kLanes * element_bits(kType) / 8;
  hn::Vec<D> sum[kGroup][kVectors];
#pragma GCC unroll 8
  for (size_t h = 0; h < kGroup; ++h) {
    for (size_t j = 0; j < kVectors; ++j) {
      sum[h][j] = hn::LoadU(d, out + h * out_stride + j * kLanes);
    }
  }
  // Rows whose quants share bytes are read together.
  constexpr size_t kTogether = kType == KvType::kQ4 ? 2 : 1;
  constexpr size_t kApart = kBlockRows / kTogether;
  const std::byte* fetched = slice + ahead + column * kBlockRows * element_bits(kType) / 8;
#pragma GCC unroll 2
  for (size_t row = 0; row < kApart; ++row) {
    const size_t index = row * channels + column;
    prefetch(fetched + row * kColumnBytes * kTogether, kColumnBytes * kTogether);
#pragma GCC unroll 2
    for (size_t t = 0; t < kTogether; ++t) {
      hn::Vec<D> x[kGroup];
#pragma GCC unroll 8
      for (size_t h = 0; h < kGroup; ++h) {
        x[h] = hn::Set(d, weights[h * kBlockRows + row + t * kApart]);
      }
#pragma GCC unroll 8
      for (size_t j = 0; j < kVectors; ++j) {
        const auto v = LoadElements<kType>(d, slice, index + j * kLanes, t != 0);
#pragma GCC unroll 8
        for (size_t h = 0; h < kGroup; ++h) sum[h][j] = hn::MulAdd(x[h], v, sum[h][j]);
      }
    }
  }
#pragma GCC unroll 8
  for (size_t h = 0; h < kGroup; ++h) {
    for (size_t j = 0; j < kVectors; ++j) {
      hn::StoreU(sum[h][j], d, out + h * out_stride + j * kLanes);
    }
  }
}

/// Adds one slice of the values, column by column of the register tile.
template <size_t kGroup, KvType kType>
HWY_INLINE void AddSlice(const float* HWY_RESTRICT weights, const std::byte* slice, size_t channels,
                         size_t ahead, float* HWY_RESTRICT out, size_t out_stride) {
  const VectorTag d;
  constexpr size_t kLanes = hn::MaxLanes(VectorTag());
  constexpr size_t kVectors = ValueVectors<kGroup>();
  size_t c = 0;
  for (; c + kVectors * kLanes <= channels; c += kVectors * kLanes) {
    AddValues<kGroup, kVectors, kType>(d, weights, slice, channels, c, ahead, out + c, out_stride);
  }
  for (; c + kLanes <= channels; c += kLanes) {
    AddValues<kGroup, 1, kType>(d, weights, slice, channels, c, ahead, out + c, out_stride);
  }
  for (; c < channels; ++c) {
    AddValues<kGroup, 1, kType>(hn::CappedTag<float, 1>(), weights, slice, channels, c, ahead,
                                out + c, out_stride);
  }
}

/// Adds the values of a block. A quantised value is min + scale * quant in every row of a slice.
/// The scale is folded into the weight and the min into a constant of the slice.
template <size_t kGroup, KvType kType>
HWY_INLINE void AddBlock(const float* HWY_RESTRICT weights, const std::byte* values,
                         const KvLayout& layout, float* HWY_RESTRICT out) {
  const size_t ahead = BytesAhead(layout);
  const std::byte* slice = values;
  const auto* scales = reinterpret_cast<const uint16_t*>(values + layout.value_element_bytes());
  for (size_t first = 0; first < layout.value_dim; first += kSliceChannels) {
    const size_t channels = std::min(kSliceChannels, layout.value_dim - first);
    if constexpr (is_quantized(kType)) {
      const VectorTag d;
      HWY_ALIGN std::array<float, kGroup * kBlockRows> folded;
      for (size_t h = 0; h < kGroup; ++h) {
        auto constant = hn::Zero(d);
        for (size_t row = 0; row < kBlockRows; row += hn::Lanes(d)) {
          const auto w = hn::LoadU(d, weights + h * kBlockRows + row);
          hn::StoreU(hn::Mul(w, LoadHalves(d, scales + row)), d, &folded[h * kBlockRows + row]);
          constant = hn::MulAdd(w, LoadHalves(d, scales + kBlockRows + row), constant);
        }
        const float sum = hn::GetLane(hn::SumOfLanes(d, constant));
        float* row_out = out + h * layout.value_dim + first;
        for (size_t c = 0; c < channels; ++c) row_out[c] += sum;
      }
      scales += 2 * kBlockRows;
      AddSlice<kGroup, kType>(folded.data(), slice, channels, ahead, out + first, layout.value_dim);
    } else {
      AddSlice<kGroup, kType>(weights, slice, channels, ahead, out + first, layout.value_dim);
    }
    slice += kBlockRows * channels * element_bits(kType) / 8;
  }
}

/// Turns the logits of a block into weights. Earlier sums are rescaled where the maximum rises.
/// Rows that are not visible get weight 0. `kept`, if not null, receives the scaled logits.
HWY_INLINE void SoftmaxBlock(float* HWY_RESTRICT logits, const VisibleRows& rows,
                             const Problem& problem, float& maximum, float* HWY_RESTRICT sum,
                             float* HWY_RESTRICT out, float* HWY_RESTRICT kept) {
  const size_t begin = rows.begin;
  const size_t end = rows.end;
  const VectorTag d;
  constexpr size_t kLanes = hn::MaxLanes(VectorTag());
  constexpr size_t kVectors = kBlockRows / kLanes;
  const auto visible = [&](size_t j) HWY_ATTR {
    const auto index = hn::Iota(d, static_cast<float>(j * kLanes));
    return hn::And(hn::Ge(index, hn::Set(d, static_cast<float>(begin))),
                   hn::Lt(index, hn::Set(d, static_cast<float>(end))));
  };
  const bool masked = begin > 0 || end < kBlockRows;
  hn::Vec<VectorTag> z[kVectors];
  auto top = hn::Set(d, kNoLogit);
  for (size_t j = 0; j < kVectors; ++j) {
    z[j] = hn::Mul(hn::LoadU(d, logits + j * kLanes), hn::Set(d, problem.scale));
    if (problem.softcap > 0) {
      const auto cap = hn::Set(d, problem.softcap);
      z[j] = hn::Mul(cap, Tanh(d, hn::Mul(z[j], hn::Set(d, 1.0F / problem.softcap))));
    }
    if (rows.bias != nullptr) z[j] = hn::Add(z[j], hn::LoadU(d, rows.bias + j * kLanes));
    if (kept != nullptr) hn::StoreU(z[j], d, kept + j * kLanes);
    if (masked) z[j] = hn::IfThenElse(visible(j), z[j], hn::Set(d, kNoLogit));
    top = hn::Max(top, z[j]);
  }
  auto total = hn::LoadU(d, sum);
  if (!hn::AllFalse(d, hn::Gt(top, hn::Set(d, maximum + kMaxSlack)))) {
    const float raised = hn::GetLane(hn::MaxOfLanes(d, top));
    const float factor = hn::GetLane(Exp(d, hn::Set(d, maximum - raised)));
    maximum = raised;
    total = hn::Mul(total, hn::Set(d, factor));
    for (size_t c = 0; c < problem.layout.value_dim; ++c) out[c] *= factor;
  }
  for (size_t j = 0; j < kVectors; ++j) {
    auto x = Exp(d, hn::Sub(z[j], hn::Set(d, maximum)));
    if (masked) x = hn::IfThenElseZero(visible(j), x);
    hn::StoreU(x, d, logits + j * kLanes);
    total = hn::Add(total, x);
  }
  hn::StoreU(total, d, sum);
}

/// Adds a block to the partial softmax of kGroup query heads, from head `h` of the part on.
template <size_t kGroup, KvType kType>
void AttendHeads(const Problem& problem, const KvLayout& layout, const Part& part, size_t h,
                 const std::byte* block, const VisibleRows& visible, const TaskMemory& memory) {
  HWY_ALIGN std::array<float, kGroup * kBlockRows> weights;
  HWY_ALIGN std::array<float, kBlockRows> logits;
  const bool keep = problem.weights.data != nullptr;
  const float* q = problem.queries.row(part.head * problem.group + h);
  BlockLogits<kGroup, kType>(q, problem.queries.stride, block, layout, memory.folded,
                             weights.data());
  float* out = part.out + h * layout.value_dim;
  for (size_t i = 0; i < kGroup; ++i) {
    SoftmaxBlock(weights.data() + i * kBlockRows, visible, problem, part.maximum[h + i],
                 part.sum + (h + i) * kSumLanes, out + i * layout.value_dim,
                 keep ? logits.data() : nullptr);
    if (!keep) continue;
    std::copy(logits.data() + visible.begin, logits.data() + visible.end,
              problem.weights.row(part.head * problem.group + h + i) + visible.row);
  }
  AddBlock<kGroup, kType>(weights.data(), block + layout.key_bytes(), layout, out);
}

/// The same for all query heads of the part.
template <KvType kType>
void AttendBlock(const Problem& problem, const KvLayout& layout, const Part& part,
                 const std::byte* block, const VisibleRows& visible, const TaskMemory& memory) {
  for (size_t h = 0; h < problem.group;) {
    const size_t heads = std::min(kMaxGroup, problem.group - h);
    const auto attend = heads == 1   ? AttendHeads<1, kType>
                        : heads == 2 ? AttendHeads<2, kType>
                        : heads == 3 ? AttendHeads<3, kType>
                                     : AttendHeads<4, kType>;
    attend(problem, layout, part, h, block, visible, memory);
    h += heads;
  }
}

/// Copies up to kBlockRows residual rows into a block of floats. Missing rows become zeros.
void BlockOfRows(const KvLayout& layout, const std::byte* rows, size_t count, float* block) {
  const KvLayout floats{KvType::kF32, layout.key_dim, layout.value_dim};
  float* values = block + floats.key_bytes() / sizeof(float);
  float* row = block + floats.block_bytes() / sizeof(float);  // room for one row
  const VectorTag d;
  const auto load = [&](const std::byte* from, size_t n) HWY_ATTR {
    if (layout.type == KvType::kF32) {
      std::copy_n(reinterpret_cast<const float*>(from), n, row);
      return;
    }
    size_t i = 0;
    for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
      hn::StoreU(LoadHalves(d, from + i * sizeof(uint16_t)), d, row + i);
    }
    const hn::CappedTag<float, 1> d1;
    for (; i < n; ++i) hn::StoreU(LoadHalves(d1, from + i * sizeof(uint16_t)), d1, row + i);
  };
  std::fill(block, row, 0.0F);
  for (size_t r = 0; r < count; ++r) {
    const std::byte* from = rows + r * layout.row_bytes();
    load(from, layout.key_dim);
    for (size_t c = 0; c < layout.key_dim; ++c) block[c * kBlockRows + r] = row[c];
    load(from + layout.key_dim * layout.residual_element_bytes(), layout.value_dim);
    for (size_t first = 0; first < layout.value_dim; first += kSliceChannels) {
      const size_t channels = std::min(kSliceChannels, layout.value_dim - first);
      std::copy_n(row + first, channels, values + first * kBlockRows + r * channels);
    }
  }
}

void AttendPart(const Problem& problem, const CachedHead& head, const Part& part,
                const TaskMemory& memory) {
  const KvLayout& layout = problem.layout;
  const size_t rows = head.first + head.count;
  const size_t packed = layout.packed_blocks(rows);
  std::fill_n(part.maximum, problem.group, kNoMaximum);
  std::fill_n(part.sum, problem.group * kSumLanes, 0.0F);
  std::fill_n(part.out, problem.group * layout.value_dim, 0.0F);
  const auto attend_packed = [&] {
    switch (layout.type) {
      case KvType::kF32:
        return AttendBlock<KvType::kF32>;
      case KvType::kQ8:
        return AttendBlock<KvType::kQ8>;
      case KvType::kQ4:
        return AttendBlock<KvType::kQ4>;
      case KvType::kF16:
        break;
    }
    return AttendBlock<KvType::kF16>;
  }();
  for (size_t g = part.begin; g < part.end; ++g) {
    const size_t begin = g == 0 ? head.first : 0;
    VisibleRows visible{begin, std::min(kBlockRows, rows - g * kBlockRows),
                        g * kBlockRows + begin - head.first, nullptr};
    std::array<float, kBlockRows> bias;
    if (head.bias != nullptr) {  // the last block may have fewer rows
      bias.fill(0.0F);
      std::copy_n(head.bias + g * kBlockRows, visible.end, bias.begin());
      visible.bias = bias.data();
    }
    const std::byte* block = head.data + layout.block_offset(g, rows);
    if (g < packed) {
      attend_packed(problem, layout, part, block, visible, memory);
      continue;
    }
    BlockOfRows(layout, block, visible.end, memory.block);
    AttendBlock<KvType::kF32>(problem, {KvType::kF32, layout.key_dim, layout.value_dim}, part,
                              reinterpret_cast<const std::byte*>(memory.block), visible, memory);
  }
}

/// row[i] <- factor * exp(row[i] - maximum)
void ExpRow(std::span<float> row, float maximum, float factor) {
  const VectorTag d;
  const hn::CappedTag<float, 1> d1;
  const auto apply = [&](auto tag, float* x) HWY_ATTR {
    const auto difference = hn::Sub(hn::LoadU(tag, x), hn::Set(tag, maximum));
    hn::StoreU(hn::Mul(hn::Set(tag, factor), Exp(tag, difference)), tag, x);
  };
  size_t i = 0;
  for (; i + hn::Lanes(d) <= row.size(); i += hn::Lanes(d)) apply(d, row.data() + i);
  for (; i < row.size(); ++i) apply(d1, row.data() + i);
}

/// Merges the parts of one head: softmax is associative once maxima are aligned.
void MergeParts(std::span<const Part> parts, const CachedHead& head, const Problem& problem,
                const Matrix<float>& out) {
  const size_t value_dim = problem.layout.value_dim;
  for (size_t h = 0; h < problem.group; ++h) {
    const size_t query_head = parts[0].head * problem.group + h;
    const bool has_sink = !problem.sink_logits.empty();
    float maximum = has_sink ? problem.sink_logits[query_head] : kNoMaximum;
    for (const Part& part : parts) maximum = std::max(maximum, part.maximum[h]);
    float* HWY_RESTRICT target = out.row(query_head);
    std::fill_n(target, value_dim, 0.0F);
    float total = has_sink ? std::exp(problem.sink_logits[query_head] - maximum) : 0.0F;
    for (const Part& part : parts) {
      const float factor = std::exp(part.maximum[h] - maximum);
      float sum = 0.0F;
      for (size_t i = 0; i < kSumLanes; ++i) sum += part.sum[h * kSumLanes + i];
      total += factor * sum;
      const float* HWY_RESTRICT from = part.out + h * value_dim;
      for (size_t c = 0; c < value_dim; ++c) target[c] += factor * from[c];
    }
    const float inverse = total > 0 ? 1.0F / total : 0.0F;
    for (size_t c = 0; c < value_dim; ++c) target[c] *= inverse;
    if (problem.weights.data == nullptr) continue;
    float* weights = problem.weights.row(query_head);
    ExpRow({weights, head.count}, maximum, inverse);
  }
}

void DecodeAttention(const Matrix<const float>& queries, std::span<const CachedHead> heads,
                     float scale, const AttentionOptions& options, const Matrix<float>& out,
                     const Matrix<float>& weights) {
  const Problem problem{.queries = queries,
                        .group = queries.rows / heads.size(),
                        .layout = {heads[0].type, queries.cols, out.cols},
                        .scale = scale,
                        .softcap = options.softcap,
                        .sink_logits = options.sink_logits,
                        .weights = weights};
  const size_t group = problem.group;
  const KvLayout floats{KvType::kF32, queries.cols, out.cols};

  // Reused between calls: a token would otherwise allocate in every layer.
  thread_local std::vector<Part> parts;
  thread_local AlignedVector<float> sums;
  thread_local AlignedVector<float> task_memory;

  size_t all_blocks = 0;
  size_t bytes = 0;
  for (const CachedHead& head : heads) {
    all_blocks += hwy::DivCeil(head.first + head.count, kBlockRows);
    bytes += problem.layout.bytes(head.first + head.count);
  }
  // The split of heads depends on their lengths only, so that results do not depend on threads.
  const size_t part_blocks = std::max(kLeastPartBlocks, hwy::DivCeil(all_blocks, kMaxParts));
  parts.clear();
  for (size_t h = 0; h < heads.size(); ++h) {
    const size_t blocks = hwy::DivCeil(heads[h].first + heads[h].count, kBlockRows);
    size_t begin = 0;
    do {  // a head without rows still gets one (empty) part, which yields zeros
      const size_t end = std::min(begin + part_blocks, blocks);
      parts.push_back({h, begin, end, nullptr, nullptr, nullptr});
      begin = end;
    } while (begin < blocks);
  }
  // Parts are whole pairs of cache lines apart, to avoid false sharing.
  constexpr size_t kApart = 32;
  const size_t part_floats = hwy::RoundUpTo(group * (1 + kSumLanes + out.cols), kApart);
  if (sums.size() < parts.size() * part_floats) sums.resize(parts.size() * part_floats);
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i].maximum = sums.data() + i * part_floats;
    parts[i].sum = parts[i].maximum + group;
    parts[i].out = parts[i].sum + group * kSumLanes;
  }
  const size_t block_floats =
      floats.block_bytes() / sizeof(float) + std::max(queries.cols, out.cols);
  const size_t task_floats = hwy::RoundUpTo(kMaxGroup * queries.cols + block_floats, kApart);
  const auto threads = static_cast<size_t>(num_threads());
  if (task_memory.size() < threads * task_floats) task_memory.resize(threads * task_floats);

  float* memory = task_memory.data();  // tasks would see their own thread_locals
  const std::span<const Part> all = parts;
  const auto attend = [&](size_t task, size_t thread) {
    float* folded = memory + thread * task_floats;
    AttendPart(problem, heads[all[task].head], all[task],
               {folded, folded + kMaxGroup * queries.cols});
  };
  if (bytes < kSerialBytes) {
    for (size_t task = 0; task < parts.size(); ++task) attend(task, 0);
  } else {
    parallel_for(parts.size(), attend, Sharing::kRuns);
  }
  for (size_t i = 0; i < parts.size();) {
    size_t last = i;
    while (last < parts.size() && parts[last].head == parts[i].head) ++last;
    MergeParts(all.subspan(i, last - i), heads[parts[i].head], problem, out);
    i = last;
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(DecodeAttention);

void decode_attention(Matrix<const float> queries, std::span<const CachedHead> heads,
                      const AttentionOptions& options, Matrix<float> out, Matrix<float> weights) {
  if (heads.empty() || queries.rows % heads.size() != 0 || out.rows != queries.rows) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("decode_attention: shapes do not fit: queries [{}, {}], {} cache "
                            "heads, out [{}, {}]",
                            queries.rows, queries.cols, heads.size(), out.rows, out.cols));
  }
  for (const CachedHead& head : heads) {
    if (head.type == heads[0].type) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("decode_attention: heads of types {} and {} in one cache",
                            kv_type_name(heads[0].type), kv_type_name(head.type)));
  }
  for (const CachedHead& head : heads) {
    if (weights.data == nullptr || (weights.rows == queries.rows && weights.cols >= head.count)) {
      continue;
    }
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("decode_attention: weights are [{}, {}], but there are {} query heads "
                            "and {} rows",
                            weights.rows, weights.cols, queries.rows, head.count));
  }
  check_sinks("decode_attention", options, queries.rows);
  const float scale = softmax_scale(options.scale, queries.cols);
  HWY_DYNAMIC_DISPATCH(DecodeAttention)(queries, heads, scale, options, out, weights);
}

}  // namespace restkv
#endif  // HWY_ONCE
