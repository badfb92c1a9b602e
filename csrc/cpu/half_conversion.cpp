// SPDX-License-Identifier: Apache-2.0
// Half-precision numbers to float32 and back.
#include "cpu/conv_kernels.h"

#ifdef PCPERC_X86
#include <immintrin.h>
#endif

namespace pcperc {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

template <class From, class To>
PCPERC_INLINE void convert(const From* from, int64_t count, To* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<To>(from[i]);
}

// A bfloat16 is the upper half of a float32.
PCPERC_INLINE void widen_vectors(const BFloat16* from, int64_t count, float* to) {
  typedef uint16_t Narrow __attribute__((vector_size(32), aligned(2), may_alias));
  typedef uint32_t Wide __attribute__((vector_size(64), aligned(4), may_alias));
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    *reinterpret_cast<Wide*>(to + i) = __builtin_convertvector(*reinterpret_cast<const Narrow*>(from + i), Wide) << 16;
  }
  convert(from + i, count - i, to + i);
}

PCPERC_INLINE void widen_vectors(const Half* from, int64_t count, float* to) { convert(from, count, to); }

template <class T>
PCPERC_INLINE void gather_rows(const T* feats, int64_t channels, const int32_t* rows, int64_t count, float* to,
                               int64_t to_stride) {
  const int64_t row_bytes = channels * static_cast<int64_t>(sizeof(T)), ahead = pairs_ahead(row_bytes);
  for (int64_t i = 0; i < count; ++i) {
    fetch_row(feats + rows[i + ahead] * channels, row_bytes);
    widen_vectors(feats + rows[i] * channels, channels, to + i * to_stride);
  }
}

#define PCPERC_HALF_CONVERSION(SUFFIX, TARGET)                                                                               \
  template <class T>                                                                                                         \
  TARGET void gather_##SUFFIX(const T* feats, int64_t channels, const int32_t* rows, int64_t count, float* to,               \
                              int64_t to_stride) {                                                                           \
    gather_rows(feats, channels, rows, count, to, to_stride);                                                                \
  }                                                                                                                          \
  template <class T>                                                                                                         \
  TARGET void widen_##SUFFIX(const T* from, int64_t count, float* to) { widen_vectors(from, count, to); }                    \
  template <class T>                                                                                                         \
  TARGET void narrow_##SUFFIX(const float* from, int64_t count, T* to) { convert(from, count, to); }                         \
  template <class T>                                                                                                         \
  constexpr HalfConversion<T> kConversion_##SUFFIX{gather_##SUFFIX<T>, widen_##SUFFIX<T>, narrow_##SUFFIX<T>}

PCPERC_HALF_CONVERSION(base, );
#ifdef PCPERC_X86
PCPERC_HALF_CONVERSION(avx2, PCPERC_TARGET_AVX2);
PCPERC_HALF_CONVERSION(avx512, PCPERC_TARGET_AVX512);

// float16 has instructions of its own (F16C), which every processor with AVX2 has.
PCPERC_TARGET_AVX2 void widen_float16(const Half* from, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
  }
  for (; i < count; ++i) to[i] = _cvtsh_ss(from[i].x);
}

PCPERC_TARGET_AVX2 void gather_float16(const Half* feats, int64_t channels, const int32_t* rows, int64_t count, float* to,
                                       int64_t to_stride) {
  const int64_t row_bytes = channels * static_cast<int64_t>(sizeof(Half)), ahead = pairs_ahead(row_bytes);
  for (int64_t i = 0; i < count; ++i) {
    fetch_row(feats + rows[i + ahead] * channels, row_bytes);
    widen_float16(feats + rows[i] * channels, channels, to + i * to_stride);
  }
}

PCPERC_TARGET_AVX2 void narrow_float16(const float* from, int64_t count, Half* to) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i eight = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), eight);
  }
  for (; i < count; ++i) to[i].x = _cvtss_sh(from[i], _MM_FROUND_TO_NEAREST_INT);
}

constexpr HalfConversion<Half> kConversion_f16c{gather_float16, widen_float16, narrow_float16};
#endif

}  // namespace

template <>
const HalfConversion<Half>& half_conversion<Half>(Capability capability) {
#ifdef PCPERC_X86
  if (capability >= Capability::kAvx2) return kConversion_f16c;
#endif
  return kConversion_base<Half>;
}

template <>
const HalfConversion<BFloat16>& half_conversion<BFloat16>(Capability capability) {
#ifdef PCPERC_X86
  if (capability >= Capability::kAvx512) return kConversion_avx512<BFloat16>;
  if (capability == Capability::kAvx2) return kConversion_avx2<BFloat16>;
#endif
  return kConversion_base<BFloat16>;
}

}  // namespace pcperc
