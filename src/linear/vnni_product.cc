#include "linear/vnni_product.h"

#include "base/avx512.h"
#include "base/prefetch.h"
#include "hwy/base.h"

#if HWY_ARCH_X86
HWY_DIAGNOSTICS(push)
#if HWY_COMPILER_GCC_ACTUAL  // takes the vectors that its header leaves undefined for a mistake
HWY_DIAGNOSTICS_OFF(disable : 4701, ignored "-Wmaybe-uninitialized")
HWY_DIAGNOSTICS_OFF(disable : 4703, ignored "-Wuninitialized")
#endif
#include <immintrin.h>
HWY_DIAGNOSTICS(pop)

#include <algorithm>
#include <array>
#include <cstdint>

// Highway 1.0 has no name for VPDPBUSD. Whoever calls what is here has asked the processor.
HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
namespace restkv {
namespace {

constexpr size_t kBlock = 32;     ///< Numbers that share a step, in weights and in x.
constexpr size_t kTogether = 16;  ///< Blocks whose steps are looked up at a time.
constexpr size_t kVectorWords = 32;

/// A block of weights: a step (half), perhaps a minimum (half), then the codes, in words of 16
/// bits. A number is step * (code - offset), or minimum + step * code. Of 4-bit codes, those of the
/// first 16 numbers are in the lower halves of the bytes; 8-bit codes have a sign, which the offset
/// takes away.
struct Format {
  size_t bits;
  bool has_minimum;

  [[nodiscard]] constexpr size_t code_words() const { return kBlock * bits / 16; }
  [[nodiscard]] constexpr size_t header_words() const { return has_minimum ? 2 : 1; }
  [[nodiscard]] constexpr size_t words() const { return header_words() + code_words(); }
  [[nodiscard]] constexpr size_t offset() const { return size_t{1} << (bits - 1); }
  /// Vectors of words that hold the headers of `kTogether` blocks.
  [[nodiscard]] constexpr size_t header_vectors() const {
    return (kTogether * words() + kVectorWords - 1) / kVectorWords;
  }
};
constexpr Format kQ40{4, false};
constexpr Format kQ41{4, true};
constexpr Format kQ80{8, false};

/// A rounded row of x: a step per block; the block's sum of codes, times that step; the codes.
/// Each of the three is padded to whole vectors.
struct RoundedRow {
  RoundedRow(const char* data, size_t cols)
      : steps(reinterpret_cast<const float*>(data)),
        sums(steps + padded_blocks(cols)),
        codes(reinterpret_cast<const int8_t*>(sums + padded_blocks(cols))) {}

  static size_t padded_blocks(size_t cols) {
    return (cols / kBlock + kTogether - 1) / kTogether * kTogether;
  }
  static size_t bytes(size_t cols) {
    return 2 * padded_blocks(cols) * sizeof(float) + (cols + 63) / 64 * 64;
  }

  const float* steps;
  const float* sums;
  const int8_t* codes;
};

void round_row(const float* x, size_t cols, char* out) {
  auto* steps = reinterpret_cast<float*>(out);
  float* sums = steps + RoundedRow::padded_blocks(cols);
  auto* codes = reinterpret_cast<__m128i*>(sums + RoundedRow::padded_blocks(cols));
  std::fill_n(out, RoundedRow::bytes(cols), '\0');
  const __m512 zero = _mm512_setzero_ps();
  for (size_t b = 0; b < cols / kBlock; ++b, codes += 2) {
    const __m512 low = _mm512_loadu_ps(x + b * kBlock);
    const __m512 high = _mm512_loadu_ps(x + b * kBlock + 16);
    const float largest =
        _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
    // Zero, unless a number is infinite or NaN.
    const float nothing =
        _mm512_reduce_add_ps(_mm512_fmadd_ps(low, zero, _mm512_mul_ps(high, zero)));
    steps[b] = sums[b] = nothing;
    if (nothing != 0 || !(largest > 0)) continue;
    const __m512 inverse = _mm512_set1_ps(127 / largest);
    const __m512i low_codes = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse));
    const __m512i high_codes = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
    _mm_storeu_si128(codes, _mm512_cvtsepi32_epi8(low_codes));
    _mm_storeu_si128(codes + 1, _mm512_cvtsepi32_epi8(high_codes));
    const int sum = _mm512_reduce_add_epi32(_mm512_add_epi32(low_codes, high_codes));
    steps[b] = largest / 127;
    sums[b] = steps[b] * static_cast<float>(sum);
  }
}

/// Where things are in rows of blocks.
template <Format kFormat>
struct Layout {
  using Words = std::array<uint16_t, kVectorWords>;
  /// The steps of 16 blocks and, 16 lanes later, their minima: which word of which vector they are.
  alignas(64) std::array<Words, kFormat.header_vectors()> header{};
  std::array<uint32_t, kFormat.header_vectors()> in_vector{};
  /// Of 4 bits: two blocks' codes in the order of x, each word twice, and by how much to shift it.
  alignas(64) Words code{};
  alignas(64) Words shift{};

  constexpr Layout() {
    for (size_t lane = 0; lane < kVectorWords; ++lane) {
      constexpr size_t kCodes = kFormat.code_words();
      code[lane] = static_cast<uint16_t>(lane / 16 * kFormat.words() + kFormat.header_words() +
                                         lane % kCodes);
      shift[lane] = lane % 16 < kCodes ? 0 : 4;
      const size_t part = lane / kTogether;
      if (part >= kFormat.header_words()) continue;
      const size_t word = lane % kTogether * kFormat.words() + part;
      header[word / kVectorWords][lane] = static_cast<uint16_t>(word % kVectorWords);
      in_vector[word / kVectorWords] |= 1U << lane;
    }
  }
};
template <Format kFormat>
constexpr Layout<kFormat> kLayout{};

/// A vector of words. Loads reach beyond the blocks that are wanted, up to as many words from a
/// row's end as the headers of `kTogether` blocks take; near the end of the weights (`kCareful`)
/// only the first `wanted` words are touched.
template <bool kCareful>
HWY_INLINE __m512i LoadWords(const uint16_t* p, size_t wanted) {
  if constexpr (!kCareful) return _mm512_loadu_si512(p);
  return _mm512_maskz_loadu_epi16(wanted < kVectorWords ? (1U << wanted) - 1 : ~0U, p);
}

/// Steps of up to 16 blocks in the lower half of the result, minima in the upper half. Lanes of
/// blocks that are not wanted hold anything.
template <Format kFormat, bool kCareful>
HWY_INLINE __m512i LoadHeaders(const uint16_t* w, size_t blocks) {
  constexpr const Layout<kFormat>& layout = kLayout<kFormat>;
  const size_t words = blocks * kFormat.words();
  __m512i header = _mm512_permutexvar_epi16(_mm512_load_si512(layout.header[0].data()),
                                            LoadWords<kCareful>(w, words));
  if ((blocks - 1) * kFormat.words() + kFormat.header_words() <= kVectorWords) return header;
#pragma GCC unroll 8
  for (size_t v = 1; v < layout.header.size(); ++v) {
    const size_t before = v * kVectorWords;
    const __m512i part = LoadWords<kCareful>(w + before, words - std::min(words, before));
    header = _mm512_mask_permutexvar_epi16(header, layout.in_vector[v],
                                           _mm512_load_si512(layout.header[v].data()), part);
  }
  return header;
}

/// The codes of blocks i and i + 1, of `blocks`, as unsigned bytes in the order of x.
template <Format kFormat, bool kCareful>
HWY_INLINE __m512i LoadCodes(const uint16_t* w, size_t i, size_t blocks) {
  if constexpr (kFormat.bits == 4) {
    constexpr const Layout<kFormat>& layout = kLayout<kFormat>;
    const uint16_t* first = w + i * kFormat.words();
    const __m512i twice =
        _mm512_permutexvar_epi16(_mm512_load_si512(layout.code.data()),
                                 LoadWords<kCareful>(first, (blocks - i) * kFormat.words()));
    return _mm512_and_si512(_mm512_srlv_epi16(twice, _mm512_load_si512(layout.shift.data())),
                            _mm512_set1_epi8(15));
  } else {
    const auto load = [&](size_t block) {
      const uint16_t* codes = w + block * kFormat.words() + kFormat.header_words();
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes));
    };
    const __m256i second = kCareful && i + 1 == blocks ? _mm256_setzero_si256() : load(i + 1);
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(load(i)), second, 1);
    return _mm512_xor_si512(both, _mm512_set1_epi8(static_cast<char>(kFormat.offset())));
  }
}

/// Adds to `sum` the products of blocks i and i + 1, of `blocks` whose steps are in `steps`.
template <Format kFormat, bool kCareful>
HWY_INLINE __m512 AddPair(const uint16_t* w, size_t i, size_t blocks, const int8_t* x, __m512 steps,
                          __m512 sum) {
  const __m512i products =
      _mm512_dpbusd_epi32(_mm512_setzero_si512(), LoadCodes<kFormat, kCareful>(w, i, blocks),
                          _mm512_loadu_si512(x + i * kBlock));
  const __m512i halves = _mm512_set_epi32(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m512i blocks_of_lanes = _mm512_add_epi32(halves, _mm512_set1_epi32(static_cast<int>(i)));
  const __m512 steps_of_lanes = _mm512_permutexvar_ps(blocks_of_lanes, steps);
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), steps_of_lanes, sum);
}

/// The product of a stored row and a row of x.
template <Format kFormat, bool kCareful>
HWY_INLINE float Dot(const uint16_t* w, size_t blocks, const RoundedRow& x) {
  __m512 even = _mm512_setzero_ps();
  __m512 odd = _mm512_setzero_ps();
  __m512 minima = _mm512_setzero_ps();
  for (size_t b = 0; b < blocks; b += kTogether, w += kTogether * kFormat.words()) {
    const size_t count = std::min(kTogether, blocks - b);
    const auto wanted = static_cast<__mmask16>((1U << count) - 1);
    const __m512i header = LoadHeaders<kFormat, kCareful>(w, count);
    const __m512 weight_steps = _mm512_maskz_cvtph_ps(wanted, _mm512_castsi512_si256(header));
    const __m512 minimum =
        kFormat.has_minimum
            ? _mm512_maskz_cvtph_ps(wanted, _mm512_extracti64x4_epi64(header, 1))
            : _mm512_mul_ps(weight_steps, _mm512_set1_ps(-static_cast<float>(kFormat.offset())));
    minima = _mm512_fmadd_ps(minimum, _mm512_loadu_ps(x.sums + b), minima);
    const __m512 steps = _mm512_mul_ps(weight_steps, _mm512_loadu_ps(x.steps + b));
    const int8_t* codes = x.codes + b * kBlock;
    if (count == kTogether) {
#pragma GCC unroll 4
      for (size_t i = 0; i < kTogether; i += 4) {
        even = AddPair<kFormat, kCareful>(w, i, count, codes, steps, even);
        odd = AddPair<kFormat, kCareful>(w, i + 2, count, codes, steps, odd);
      }
    } else {
      // Of a pair that is half beyond the row, that half has a step of 0.
      for (size_t i = 0; i < count; i += 2) {
        even = AddPair<kFormat, kCareful>(w, i, count, codes, steps, even);
      }
    }
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(even, odd), minima));
}

template <Format kFormat>
void multiply(const Weight& weight, size_t begin, size_t end, const char* x, Matrix<float> y) {
  const size_t blocks = weight.cols / kBlock;
  constexpr size_t kBeyond = kFormat.header_vectors() * kVectorWords;
  const size_t row_words = blocks * kFormat.words();
  const size_t last_rows = (kBeyond + row_words - 1) / row_words;
  const size_t careful_from = weight.rows - std::min(weight.rows, last_rows);
  const auto* w = static_cast<const uint16_t*>(weight.data) + begin * row_words;
  for (size_t r = begin; r < end; ++r, w += row_words) {
    prefetch(reinterpret_cast<const char*>(w) + kWeightsAhead, row_words * sizeof(uint16_t));
    for (size_t i = 0; i < y.rows; ++i) {
      const RoundedRow row(x + i * RoundedRow::bytes(weight.cols), weight.cols);
      y.row(i)[r - begin] = r < careful_from ? Dot<kFormat, false>(w, blocks, row)
                                             : Dot<kFormat, true>(w, blocks, row);
    }
  }
}

template <Format kFormat>
constexpr VnniProduct kProduct{RoundedRow::bytes, round_row, multiply<kFormat>};

}  // namespace
}  // namespace restkv
HWY_POP_ATTRIBUTES

namespace restkv {

const VnniProduct* find_vnni_product(ggml_type type) {
  if (!runs_avx512() || __builtin_cpu_supports("avx512vnni") == 0) return nullptr;
  switch (type) {
    case GGML_TYPE_Q4_0:
      return &kProduct<kQ40>;
    case GGML_TYPE_Q4_1:
      return &kProduct<kQ41>;
    case GGML_TYPE_Q8_0:
      return &kProduct<kQ80>;
    default:
      return nullptr;
  }
}

}  // namespace restkv

#else

namespace restkv {
const VnniProduct* find_vnni_product(ggml_type) { return nullptr; }
}  // namespace restkv

#endif
