#include "kv/kv_layout.h"

#include <array>
#include <cstring>
#include <vector>

#include "kv/half.h"
#include "restkv/aligned.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kv/kv_layout.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "base/gemm-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

void Transpose(const float* rows, size_t count, size_t dim, float* to) {
  TransposePadded(rows, count, dim, dim, to, count, count);
}

/// The smallest and the largest element of each row of `count`; both NaN if one is not finite.
void Ranges(const float* HWY_RESTRICT rows, size_t row_count, size_t count,
            float* HWY_RESTRICT lowest, float* HWY_RESTRICT highest) {
  const hn::CappedTag<float, 16> d;
  const size_t lanes = hn::Lanes(d);
  for (size_t r = 0; r < row_count; ++r) {
    const float* HWY_RESTRICT x = rows + r * count;
    float low = x[0];
    float high = x[0];
    float nothing = 0.0F * x[0];  // NaN as soon as an element is not finite
    size_t i = 0;
    if (count >= lanes) {
      auto lows = hn::LoadU(d, x);
      auto highs = lows;
      auto nothings = hn::Zero(d);
      for (; i + lanes <= count; i += lanes) {
        const auto v = hn::LoadU(d, x + i);
        lows = hn::Min(lows, v);
        highs = hn::Max(highs, v);
        nothings = hn::MulAdd(v, hn::Zero(d), nothings);
      }
      low = hn::GetLane(hn::MinOfLanes(d, lows));
      high = hn::GetLane(hn::MaxOfLanes(d, highs));
      nothing = hn::GetLane(hn::SumOfLanes(d, nothings));
    }
    for (; i < count; ++i) {
      low = x[i] < low ? x[i] : low;
      high = x[i] > high ? x[i] : high;
      nothing += 0.0F * x[i];
    }
    lowest[r] = low + nothing;
    highest[r] = high + nothing;
  }
}

template <class D>
HWY_INLINE void QuantizeVector(D d, const float* x, float min, float inverse_scale, float levels,
                               uint8_t* quants) {
  const hn::Rebind<uint8_t, D> du8;
  const auto quotients =
      hn::Mul(hn::Sub(hn::LoadU(d, x), hn::Set(d, min)), hn::Set(d, inverse_scale));
  const auto bounded = hn::Min(hn::Max(quotients, hn::Zero(d)), hn::Set(d, levels));
  hn::StoreU(hn::DemoteTo(du8, hn::NearestInt(bounded)), du8, quants);
}

/// quants = (x - min) / scale, rounded, within [0, levels]; 0 where the scale is 0 or NaN.
void Quantize(const float* HWY_RESTRICT rows, size_t row_count, size_t count,
              const float* HWY_RESTRICT mins, const float* HWY_RESTRICT scales, float levels,
              uint8_t* HWY_RESTRICT quants) {
  const hn::CappedTag<float, 16> d;
  const size_t lanes = hn::Lanes(d);
  for (size_t r = 0; r < row_count; ++r) {
    const float* x = rows + r * count;
    uint8_t* to = quants + r * count;
    if (!(scales[r] > 0)) {
      for (size_t i = 0; i < count; ++i) to[i] = 0;
      continue;
    }
    const float inverse = 1.0F / scales[r];
    size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
      QuantizeVector(d, x + i, mins[r], inverse, levels, to + i);
    }
    for (; i < count; ++i) {
      QuantizeVector(hn::CappedTag<float, 1>(), x + i, mins[r], inverse, levels, to + i);
    }
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {
namespace {

HWY_EXPORT(Transpose);
HWY_EXPORT(Ranges);
HWY_EXPORT(Quantize);

uint16_t* halves(std::byte* bytes) { return reinterpret_cast<uint16_t*>(bytes); }
const uint16_t* halves(const std::byte* bytes) { return reinterpret_cast<const uint16_t*>(bytes); }
uint8_t* quants_at(std::byte* bytes) { return reinterpret_cast<uint8_t*>(bytes); }

/// The next half towards minus infinity, of a finite one.
uint16_t half_below(uint16_t bits) {
  constexpr uint16_t kSign = 0x8000;
  if ((bits & ~kSign) == 0) return kSign | 1;
  return static_cast<uint16_t>((bits & kSign) != 0 ? bits + 1 : bits - 1);
}

/// Quantises `row_count` rows of `count` floats: a scale and a min for each.
void quantize(KvType type, const float* rows, size_t row_count, size_t count,
              std::vector<uint8_t>& quants, uint16_t* scales, uint16_t* mins) {
  const float levels = type == KvType::kQ8 ? 255.0F : 15.0F;
  quants.resize(row_count * count);
  thread_local std::vector<float> low, high, scale, min;  // reused between calls
  for (std::vector<float>* x : {&low, &high, &scale, &min}) x->resize(row_count);
  HWY_DYNAMIC_DISPATCH(Ranges)(rows, row_count, count, low.data(), high.data());
  to_half(low.data(), row_count, mins);
  from_half(mins, row_count, min.data());
  for (size_t r = 0; r < row_count; ++r) {
    if (min[r] > low[r]) mins[r] = half_below(mins[r]);  // false for NaN
  }
  from_half(mins, row_count, min.data());
  for (size_t r = 0; r < row_count; ++r) low[r] = (high[r] - min[r]) / levels;
  to_half(low.data(), row_count, scales);
  from_half(scales, row_count, scale.data());
  for (size_t r = 0; r < row_count; ++r) {
    if (scale[r] < low[r]) ++scales[r];
  }
  from_half(scales, row_count, scale.data());
  HWY_DYNAMIC_DISPATCH(Quantize)
  (rows, row_count, count, min.data(), scale.data(), levels, quants.data());
}

/// Stores two quants per byte: the first half of them in the lower bits, the second in the upper.
void pair_quants(const uint8_t* quants, size_t half, uint8_t* to) {
  for (size_t i = 0; i < half; ++i) {
    to[i] = static_cast<uint8_t>(quants[i] | quants[half + i] << 4);
  }
}

float quant_at(KvType type, const std::byte* quants, size_t index, size_t half) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(quants);
  if (type == KvType::kQ8) return bytes[index];
  return static_cast<float>(index < half ? bytes[index] & 15 : bytes[index - half] >> 4);
}

}  // namespace

bool pack_row(const KvLayout& layout, const float* key, const float* value, std::byte* to) {
  if (layout.type == KvType::kF32) {
    std::memcpy(to, key, layout.key_dim * sizeof(float));
    std::memcpy(to + layout.key_dim * sizeof(float), value, layout.value_dim * sizeof(float));
    return true;
  }
  const bool key_fits = to_half(key, layout.key_dim, halves(to));
  return to_half(value, layout.value_dim, halves(to) + layout.key_dim) && key_fits;
}

void unpack_rows(const KvLayout& layout, const std::byte* rows, Matrix<float> keys,
                 Matrix<float> values) {
  for (size_t r = 0; r < keys.rows; ++r) {
    const std::byte* row = rows + r * layout.row_bytes();
    if (layout.type == KvType::kF32) {
      std::memcpy(keys.row(r), row, layout.key_dim * sizeof(float));
      std::memcpy(values.row(r), row + layout.key_dim * sizeof(float),
                  layout.value_dim * sizeof(float));
    } else {
      from_half(halves(row), layout.key_dim, keys.row(r));
      from_half(halves(row) + layout.key_dim, layout.value_dim, values.row(r));
    }
  }
}

void pack_block(const KvLayout& layout, const std::byte* rows, std::byte* block) {
  // Reused between calls: a decoded token may complete a block in every head.
  thread_local AlignedVector<float> keys, values;
  keys.resize(kBlockRows * layout.key_dim);
  values.resize(kBlockRows * layout.value_dim);
  unpack_rows(layout, rows, {keys.data(), kBlockRows, layout.key_dim},
              {values.data(), kBlockRows, layout.value_dim});
  BlockRows key_rows;
  BlockRows value_rows;
  for (size_t r = 0; r < kBlockRows; ++r) {
    key_rows[r] = &keys[r * layout.key_dim];
    value_rows[r] = &values[r * layout.value_dim];
  }
  (void)pack_block(layout, key_rows, value_rows, block);
}

bool pack_block(const KvLayout& layout, const BlockRows& keys, const BlockRows& values,
                std::byte* block) {
  bool fits = true;
  thread_local AlignedVector<float> rows, turned;
  thread_local std::vector<uint8_t> quants;
  thread_local std::vector<uint16_t> rounded;
  rows.resize(kBlockRows * std::max(layout.key_dim, kSliceChannels));
  turned.resize(kBlockRows * layout.key_dim);
  // Channels [first, first + channels) of all rows, side by side.
  const auto collect = [&](const BlockRows& from, size_t first, size_t channels) {
    for (size_t r = 0; r < kBlockRows; ++r) {
      std::copy_n(from[r] + first, channels, &rows[r * channels]);
    }
    if (!is_quantized(layout.type)) return;
    // Residual rows would hold halves; quantising halves gives the same block either way.
    rounded.resize(kBlockRows * channels);
    fits = to_half(rows.data(), rounded.size(), rounded.data()) && fits;
    from_half(rounded.data(), rounded.size(), rows.data());
  };
  const auto store = [&](const float* from, size_t count, std::byte* to) {
    if (layout.type == KvType::kF32) {
      std::memcpy(to, from, count * sizeof(float));
    } else {
      fits = to_half(from, count, halves(to)) && fits;
    }
  };

  const size_t key_dim = layout.key_dim;
  collect(keys, 0, key_dim);
  HWY_DYNAMIC_DISPATCH(Transpose)(rows.data(), kBlockRows, key_dim, turned.data());
  if (is_quantized(layout.type)) {
    uint16_t* scales = halves(block + layout.key_element_bytes());
    quantize(layout.type, turned.data(), key_dim, kBlockRows, quants, scales, scales + key_dim);
    if (layout.type == KvType::kQ8) {
      std::memcpy(block, quants.data(), quants.size());
    } else {
      for (size_t c = 0; c < key_dim; ++c) {
        pair_quants(&quants[c * kBlockRows], kBlockRows / 2, quants_at(block) + c * kBlockRows / 2);
      }
    }
  } else {
    store(turned.data(), kBlockRows * key_dim, block);
  }

  std::byte* to = block + layout.key_bytes();
  uint16_t* scales = halves(to + layout.value_element_bytes());
  for (size_t first = 0; first < layout.value_dim; first += kSliceChannels) {
    const size_t channels = std::min(kSliceChannels, layout.value_dim - first);
    const size_t row_bytes = channels * element_bits(layout.type) / 8;
    if (is_quantized(layout.type)) {
      collect(values, first, channels);
      quantize(layout.type, rows.data(), kBlockRows, channels, quants, scales, scales + kBlockRows);
      scales += 2 * kBlockRows;
      if (layout.type == KvType::kQ8) {
        std::memcpy(to, quants.data(), quants.size());
      } else {
        pair_quants(quants.data(), kBlockRows / 2 * channels, quants_at(to));
      }
    } else {
      for (size_t r = 0; r < kBlockRows; ++r)
        store(values[r] + first, channels, to + r * row_bytes);
    }
    to += kBlockRows * row_bytes;
  }
  return fits;
}

void unpack_block(const KvLayout& layout, const std::byte* block, Matrix<float> keys,
                  Matrix<float> values) {
  const KvType type = layout.type;
  const size_t bits = element_bits(type);
  std::array<float, kBlockRows * kSliceChannels> decoded{};
  const auto decode = [&](const std::byte* elements, size_t count) {
    if (type == KvType::kF32) {
      std::memcpy(decoded.data(), elements, count * sizeof(float));
    } else if (type == KvType::kF16) {
      from_half(halves(elements), count, decoded.data());
    } else {
      for (size_t i = 0; i < count; ++i) decoded[i] = quant_at(type, elements, i, count / 2);
    }
  };
  const auto scaled = [](const uint16_t* scales, size_t min_offset, size_t index, float quant) {
    std::array<float, 2> scale{};
    from_half(scales + index, 1, scale.data());
    from_half(scales + min_offset + index, 1, &scale[1]);
    return scale[1] + scale[0] * quant;
  };
  const uint16_t* scales = halves(block + layout.key_element_bytes());
  for (size_t c = 0; c < layout.key_dim; ++c) {
    decode(block + c * kBlockRows * bits / 8, kBlockRows);
    for (size_t r = 0; r < kBlockRows; ++r) {
      keys.row(r)[c] =
          is_quantized(type) ? scaled(scales, layout.key_dim, c, decoded[r]) : decoded[r];
    }
  }
  const std::byte* elements = block + layout.key_bytes();
  scales = halves(elements + layout.value_element_bytes());
  for (size_t first = 0; first < layout.value_dim; first += kSliceChannels) {
    const size_t channels = std::min(kSliceChannels, layout.value_dim - first);
    decode(elements, kBlockRows * channels);
    for (size_t r = 0; r < kBlockRows; ++r) {
      for (size_t c = 0; c < channels; ++c) {
        const float x = decoded[r * channels + c];
        values.row(r)[first + c] = is_quantized(type) ? scaled(scales, kBlockRows, r, x) : x;
      }
    }
    elements += kBlockRows * channels * bits / 8;
    if (is_quantized(type)) scales += 2 * kBlockRows;
  }
}

}  // namespace restkv
#endif  // HWY_ONCE
