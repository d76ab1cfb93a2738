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

/// Smallest and largest of each row of `count` elements; both NaN if one is NaN or infinite.
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
HWY_INLINE void QuantizeVector(D d, const float* x, float minimum, float inverse_step, float levels,
                               uint8_t* codes) {
  const hn::Rebind<uint8_t, D> du8;
  const auto steps =
      hn::Mul(hn::Sub(hn::LoadU(d, x), hn::Set(d, minimum)), hn::Set(d, inverse_step));
  const auto bounded = hn::Min(hn::Max(steps, hn::Zero(d)), hn::Set(d, levels));
  hn::StoreU(hn::DemoteTo(du8, hn::NearestInt(bounded)), du8, codes);
}

/// codes = (x - minimum) / step, rounded, within [0, levels]; 0 where the step is 0 or NaN.
void Quantize(const float* HWY_RESTRICT rows, size_t row_count, size_t count,
              const float* HWY_RESTRICT minima, const float* HWY_RESTRICT steps, float levels,
              uint8_t* HWY_RESTRICT codes) {
  const hn::CappedTag<float, 16> d;
  const size_t lanes = hn::Lanes(d);
  for (size_t r = 0; r < row_count; ++r) {
    const float* x = rows + r * count;
    uint8_t* to = codes + r * count;
    if (!(steps[r] > 0)) {
      for (size_t i = 0; i < count; ++i) to[i] = 0;
      continue;
    }
    const float inverse = 1.0F / steps[r];
    size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
      QuantizeVector(d, x + i, minima[r], inverse, levels, to + i);
    }
    for (; i < count; ++i) {
      QuantizeVector(hn::CappedTag<float, 1>(), x + i, minima[r], inverse, levels, to + i);
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
uint8_t* codes_at(std::byte* bytes) { return reinterpret_cast<uint8_t*>(bytes); }

/// The next half towards minus infinity, of a finite one.
uint16_t half_below(uint16_t bits) {
  constexpr uint16_t kSign = 0x8000;
  if ((bits & ~kSign) == 0) return kSign | 1;
  return static_cast<uint16_t>((bits & kSign) != 0 ? bits + 1 : bits - 1);
}

/// Quantises `row_count` rows of `count` floats: a step and a minimum for each.
void quantize(KvType type, const float* rows, size_t row_count, size_t count,
              std::vector<uint8_t>& codes, uint16_t* steps, uint16_t* minima) {
  const float levels = type == KvType::kQ8 ? 255.0F : 15.0F;
  codes.resize(row_count * count);
  thread_local std::vector<float> low, high, step, minimum;  // kept like the memory of pack_group
  for (std::vector<float>* x : {&low, &high, &step, &minimum}) x->resize(row_count);
  HWY_DYNAMIC_DISPATCH(Ranges)(rows, row_count, count, low.data(), high.data());
  to_half(low.data(), row_count, minima);
  from_half(minima, row_count, minimum.data());
  for (size_t r = 0; r < row_count; ++r) {
    if (minimum[r] > low[r]) minima[r] = half_below(minima[r]);  // false for NaN
  }
  from_half(minima, row_count, minimum.data());
  for (size_t r = 0; r < row_count; ++r) low[r] = (high[r] - minimum[r]) / levels;
  to_half(low.data(), row_count, steps);
  from_half(steps, row_count, step.data());
  for (size_t r = 0; r < row_count; ++r) {
    if (step[r] < low[r]) ++steps[r];
  }
  from_half(steps, row_count, step.data());
  HWY_DYNAMIC_DISPATCH(Quantize)
  (rows, row_count, count, minimum.data(), step.data(), levels, codes.data());
}

/// Two codes to a byte: the first half of them low, the second half high.
void pair_codes(const uint8_t* codes, size_t half, uint8_t* to) {
  for (size_t i = 0; i < half; ++i) {
    to[i] = static_cast<uint8_t>(codes[i] | codes[half + i] << 4);
  }
}

float code_at(KvType type, const std::byte* codes, size_t index, size_t half) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(codes);
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

void pack_group(const KvLayout& layout, const std::byte* rows, std::byte* group) {
  // Kept from call to call: a decoded token may close a group in every head.
  thread_local AlignedVector<float> keys, values;
  keys.resize(kGroupRows * layout.key_dim);
  values.resize(kGroupRows * layout.value_dim);
  unpack_rows(layout, rows, {keys.data(), kGroupRows, layout.key_dim},
              {values.data(), kGroupRows, layout.value_dim});
  GroupRows key_rows;
  GroupRows value_rows;
  for (size_t r = 0; r < kGroupRows; ++r) {
    key_rows[r] = &keys[r * layout.key_dim];
    value_rows[r] = &values[r * layout.value_dim];
  }
  (void)pack_group(layout, key_rows, value_rows, group);
}

bool pack_group(const KvLayout& layout, const GroupRows& keys, const GroupRows& values,
                std::byte* group) {
  bool fits = true;
  thread_local AlignedVector<float> rows, turned;
  thread_local std::vector<uint8_t> codes;
  thread_local std::vector<uint16_t> rounded;
  rows.resize(kGroupRows * std::max(layout.key_dim, kSliceChannels));
  turned.resize(kGroupRows * layout.key_dim);
  // Channels [first, first + channels) of all rows, side by side.
  const auto collect = [&](const GroupRows& from, size_t first, size_t channels) {
    for (size_t r = 0; r < kGroupRows; ++r) {
      std::copy_n(from[r] + first, channels, &rows[r * channels]);
    }
    if (!is_quantized(layout.type)) return;
    // What is quantised is what open rows would hold.
    rounded.resize(kGroupRows * channels);
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
  HWY_DYNAMIC_DISPATCH(Transpose)(rows.data(), kGroupRows, key_dim, turned.data());
  if (is_quantized(layout.type)) {
    uint16_t* steps = halves(group + layout.key_code_bytes());
    quantize(layout.type, turned.data(), key_dim, kGroupRows, codes, steps, steps + key_dim);
    if (layout.type == KvType::kQ8) {
      std::memcpy(group, codes.data(), codes.size());
    } else {
      for (size_t c = 0; c < key_dim; ++c) {
        pair_codes(&codes[c * kGroupRows], kGroupRows / 2, codes_at(group) + c * kGroupRows / 2);
      }
    }
  } else {
    store(turned.data(), kGroupRows * key_dim, group);
  }

  std::byte* to = group + layout.key_bytes();
  uint16_t* steps = halves(to + layout.value_code_bytes());
  for (size_t first = 0; first < layout.value_dim; first += kSliceChannels) {
    const size_t channels = std::min(kSliceChannels, layout.value_dim - first);
    const size_t row_bytes = channels * code_bits(layout.type) / 8;
    if (is_quantized(layout.type)) {
      collect(values, first, channels);
      quantize(layout.type, rows.data(), kGroupRows, channels, codes, steps, steps + kGroupRows);
      steps += 2 * kGroupRows;
      if (layout.type == KvType::kQ8) {
        std::memcpy(to, codes.data(), codes.size());
      } else {
        pair_codes(codes.data(), kGroupRows / 2 * channels, codes_at(to));
      }
    } else {
      for (size_t r = 0; r < kGroupRows; ++r)
        store(values[r] + first, channels, to + r * row_bytes);
    }
    to += kGroupRows * row_bytes;
  }
  return fits;
}

void unpack_group(const KvLayout& layout, const std::byte* group, Matrix<float> keys,
                  Matrix<float> values) {
  const KvType type = layout.type;
  const size_t bits = code_bits(type);
  std::array<float, kGroupRows * kSliceChannels> decoded{};
  const auto decode = [&](const std::byte* codes, size_t count) {
    if (type == KvType::kF32) {
      std::memcpy(decoded.data(), codes, count * sizeof(float));
    } else if (type == KvType::kF16) {
      from_half(halves(codes), count, decoded.data());
    } else {
      for (size_t i = 0; i < count; ++i) decoded[i] = code_at(type, codes, i, count / 2);
    }
  };
  const auto scaled = [](const uint16_t* steps, size_t minimum_offset, size_t index, float code) {
    std::array<float, 2> scale{};
    from_half(steps + index, 1, scale.data());
    from_half(steps + minimum_offset + index, 1, &scale[1]);
    return scale[1] + scale[0] * code;
  };
  const uint16_t* steps = halves(group + layout.key_code_bytes());
  for (size_t c = 0; c < layout.key_dim; ++c) {
    decode(group + c * kGroupRows * bits / 8, kGroupRows);
    for (size_t r = 0; r < kGroupRows; ++r) {
      keys.row(r)[c] =
          is_quantized(type) ? scaled(steps, layout.key_dim, c, decoded[r]) : decoded[r];
    }
  }
  const std::byte* codes = group + layout.key_bytes();
  steps = halves(codes + layout.value_code_bytes());
  for (size_t first = 0; first < layout.value_dim; first += kSliceChannels) {
    const size_t channels = std::min(kSliceChannels, layout.value_dim - first);
    decode(codes, kGroupRows * channels);
    for (size_t r = 0; r < kGroupRows; ++r) {
      for (size_t c = 0; c < channels; ++c) {
        const float code = decoded[r * channels + c];
        values.row(r)[first + c] = is_quantized(type) ? scaled(steps, kGroupRows, r, code) : code;
      }
    }
    codes += kGroupRows * channels * bits / 8;
    if (is_quantized(type)) steps += 2 * kGroupRows;
  }
}

}  // namespace restkv
#endif  // HWY_ONCE
