// Conversion of stored weights to floats for the most common types. ggml's conversions are scalar
// loops; these give the same numbers bit for bit. Included once per SIMD target (see
// hwy/foreach_target.h). Blocks are those of the GGUF format.

#if defined(RESTKV_LINEAR_UNPACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESTKV_LINEAR_UNPACK_INL_H_
#undef RESTKV_LINEAR_UNPACK_INL_H_
#else
#define RESTKV_LINEAR_UNPACK_INL_H_
#endif

#include <ggml.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "linear/k_quants.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using UnpackTag = hn::CappedTag<float, 16>;

HWY_INLINE float HalfAt(const uint8_t* p) {
  const hn::CappedTag<float, 1> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> dh;
  hwy::float16_t half;
  std::memcpy(&half, p, sizeof(half));
  return hn::GetLane(hn::PromoteTo(d, hn::LoadU(dh, &half)));
}

/// out[i] = scale * (quant(i) - offset) - min for `count` quants, where `quant` gives a vector of
/// whole numbers from an index on. Both products are exact in float32, so the result is rounded
/// once whether or not the processor fuses them.
template <class Quant>
HWY_INLINE void UnpackQuants(size_t count, float scale, int32_t offset, float min,
                             const Quant& quant, float* HWY_RESTRICT out) {
  const UnpackTag d;
  const hn::RebindToSigned<UnpackTag> di;
  for (size_t i = 0; i < count; i += hn::Lanes(d)) {
    const auto x = hn::ConvertTo(d, hn::Sub(quant(i), hn::Set(di, offset)));
    hn::StoreU(hn::MulSub(x, hn::Set(d, scale), hn::Set(d, min)), d, out + i);
  }
}

/// Bytes from `p` on, as whole numbers.
template <class T>
HWY_INLINE auto LoadBytes(const T* p) {
  const hn::RebindToSigned<UnpackTag> di;
  const hn::Rebind<T, UnpackTag> db;
  return hn::PromoteTo(di, hn::LoadU(db, p));
}
HWY_INLINE auto LowBits(const uint8_t* p, int32_t mask) {
  const hn::RebindToSigned<UnpackTag> di;
  return hn::And(LoadBytes(p), hn::Set(di, mask));
}

/// Blocks of 32: a scale (half), perhaps a min (half), and quants of 4 bits, those of the first
/// 16 numbers in the lower halves of the bytes. Without a min, quants are relative to 8.
template <bool kMin>
HWY_INLINE void UnpackNibbles(const uint8_t* HWY_RESTRICT block, size_t cols,
                              float* HWY_RESTRICT out) {
  constexpr size_t kHeader = kMin ? 4 : 2;
  constexpr int32_t kOffset = kMin ? 0 : 8;
  for (size_t c = 0; c < cols; c += 32, block += kHeader + 16) {
    const float scale = HalfAt(block);
    const float min = kMin ? -HalfAt(block + 2) : 0.0F;
    const uint8_t* quants = block + kHeader;
    UnpackQuants(
        16, scale, kOffset, min, [&](size_t i) HWY_ATTR { return LowBits(quants + i, 15); },
        out + c);
    UnpackQuants(
        16, scale, kOffset, min,
        [&](size_t i) HWY_ATTR { return hn::ShiftRight<4>(LoadBytes(quants + i)); }, out + c + 16);
  }
}

/// Blocks of 32: a scale (half) and signed bytes.
HWY_INLINE void UnpackBytes(const uint8_t* HWY_RESTRICT block, size_t cols,
                            float* HWY_RESTRICT out) {
  for (size_t c = 0; c < cols; c += 32, block += 34) {
    const auto* quants = reinterpret_cast<const int8_t*>(block + 2);
    UnpackQuants(
        32, HalfAt(block), 0, 0.0F, [&](size_t i) HWY_ATTR { return LoadBytes(quants + i); },
        out + c);
  }
}

/// Blocks of 256: a scale of scales and a scale of mins (halves), a scale and a min of 6 bits for
/// each 32 numbers in 12 bytes, and quants of 4 bits, 64 numbers in 32 bytes.
HWY_INLINE void UnpackQ4K(const uint8_t* HWY_RESTRICT block, size_t cols, float* HWY_RESTRICT out) {
  for (size_t c = 0; c < cols; c += 256, block += 144) {
    const float super_scale = HalfAt(block);
    const float super_min = HalfAt(block + 2);
    const uint8_t* scales = block + 4;
    const uint8_t* quants = block + 16;
    for (size_t part = 0; part < 8; ++part) {
      const auto [scale, min] = scale_pair(scales, part);
      const uint8_t* bytes = quants + part / 2 * 32;
      const float s = super_scale * static_cast<float>(scale);
      const float m = super_min * static_cast<float>(min);
      float* to = out + c + part * 32;
      if (part % 2 == 0) {
        UnpackQuants(
            32, s, 0, m, [&](size_t i) HWY_ATTR { return LowBits(bytes + i, 15); }, to);
      } else {
        UnpackQuants(
            32, s, 0, m, [&](size_t i) HWY_ATTR { return hn::ShiftRight<4>(LoadBytes(bytes + i)); },
            to);
      }
    }
  }
}

/// Blocks of 256: the lower 4 bits of the quants, their upper 2 bits, a signed scale for each 16
/// numbers, and a scale of scales (half). Quants are relative to 32.
HWY_INLINE void UnpackQ6K(const uint8_t* HWY_RESTRICT block, size_t cols, float* HWY_RESTRICT out) {
  for (size_t c = 0; c < cols; c += 256, block += 210) {
    const uint8_t* low = block;
    const uint8_t* high = block + 128;
    const auto* scales = reinterpret_cast<const int8_t*>(block + 192);
    const float super_scale = HalfAt(block + 208);
    for (size_t half = 0; half < 2; ++half, low += 64, high += 32, scales += 8) {
      for (size_t part = 0; part < 8; ++part) {  // of 16 numbers
        const uint8_t* low_bytes = low + part % 4 * 16;
        const uint8_t* high_bytes = high + part % 2 * 16;
        const int low_shift = part < 4 ? 0 : 4;
        const int high_shift = static_cast<int>(part / 2 * 2);
        const hn::RebindToSigned<UnpackTag> di;
        UnpackQuants(
            16, super_scale * static_cast<float>(scales[part]), 32, 0.0F,
            [&](size_t i) HWY_ATTR {
              const auto lower =
                  hn::And(hn::ShiftRightSame(LoadBytes(low_bytes + i), low_shift), hn::Set(di, 15));
              const auto upper = hn::And(hn::ShiftRightSame(LoadBytes(high_bytes + i), high_shift),
                                         hn::Set(di, 3));
              return hn::Or(lower, hn::ShiftLeft<4>(upper));
            },
            out + c + half * 128 + part * 16);
      }
    }
  }
}

#if HWY_TARGET != HWY_SCALAR  // which has no vectors of 16 bytes
/// Blocks of 32: an exponent, and 4 bits that stand for a number of E2M1, those of the first 16 in
/// the lower halves of the bytes (OCP Microscaling Formats, MXFP4).
HWY_INLINE void UnpackMxfp4(const uint8_t* HWY_RESTRICT block, size_t cols,
                            float* HWY_RESTRICT out) {
  const hn::Full128<uint8_t> d;
  // Twice the numbers, so that they are whole.
  HWY_ALIGN static constexpr int8_t kNumbers[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                                    0, -1, -2, -3, -4, -6, -8, -12};
  const auto numbers = hn::Load(d, reinterpret_cast<const uint8_t*>(kNumbers));
  HWY_ALIGN uint8_t quants[32];
  for (size_t c = 0; c < cols; c += 32, block += 17) {
    const auto bytes = hn::LoadU(d, block + 1);
    hn::Store(hn::TableLookupBytes(numbers, hn::And(bytes, hn::Set(d, uint8_t{15}))), d, quants);
    hn::Store(hn::TableLookupBytes(numbers, hn::ShiftRight<4>(bytes)), d, quants + 16);
    // 2^(exponent - 128), the least two of which are subnormal.
    const uint32_t exponent = block[0];
    const uint32_t bits = exponent < 2 ? 0x200000U << exponent : (exponent - 1) << 23U;
    float scale;
    std::memcpy(&scale, &bits, sizeof(scale));
    const auto* signed_quants = reinterpret_cast<const int8_t*>(quants);
    UnpackQuants(
        32, scale, 0, 0.0F, [&](size_t i) HWY_ATTR { return LoadBytes(signed_quants + i); },
        out + c);
  }
}
#endif

HWY_INLINE void UnpackHalves(const uint8_t* HWY_RESTRICT row, size_t cols,
                             float* HWY_RESTRICT out) {
  const UnpackTag d;
  const hn::Rebind<hwy::float16_t, UnpackTag> dh;
  const auto* halves = reinterpret_cast<const hwy::float16_t*>(row);
  size_t c = 0;
  for (; c + hn::Lanes(d) <= cols; c += hn::Lanes(d)) {
    hn::StoreU(hn::PromoteTo(d, hn::LoadU(dh, halves + c)), d, out + c);
  }
  for (; c < cols; ++c) out[c] = HalfAt(row + c * 2);
}

/// `cols` stored numbers of a ggml type, as floats.
HWY_INLINE void UnpackRow(ggml_type type, const void* row, size_t cols, float* HWY_RESTRICT out) {
  const auto* bytes = static_cast<const uint8_t*>(row);
  switch (type) {
    case GGML_TYPE_F32:
      std::memcpy(out, row, cols * sizeof(float));
      return;
    case GGML_TYPE_F16:
      return UnpackHalves(bytes, cols, out);
    case GGML_TYPE_Q4_0:
      return UnpackNibbles<false>(bytes, cols, out);
    case GGML_TYPE_Q4_1:
      return UnpackNibbles<true>(bytes, cols, out);
    case GGML_TYPE_Q8_0:
      return UnpackBytes(bytes, cols, out);
    case GGML_TYPE_Q4_K:
      return UnpackQ4K(bytes, cols, out);
    case GGML_TYPE_Q6_K:
      return UnpackQ6K(bytes, cols, out);
#if HWY_TARGET != HWY_SCALAR
    case GGML_TYPE_MXFP4:
      return UnpackMxfp4(bytes, cols, out);
#endif
    default:
      ggml_get_type_traits(type)->to_float(row, out, static_cast<int64_t>(cols));
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
