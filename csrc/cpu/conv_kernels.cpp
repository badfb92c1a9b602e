// SPDX-License-Identifier: Apache-2.0
#include "cpu/conv_kernels.h"

namespace pcperc {
namespace {

// A slope of 0 is a case of its own: 0 times minus infinity is no 0.
template <class A>
PCPERC_INLINE void finish_row(const A* sums, const A* residual, A negative_slope, int64_t count, A* out) {
  const bool is_relu = negative_slope == 0;
  for (int64_t i = 0; i < count; ++i) {
    const A x = residual ? sums[i] + residual[i] : sums[i];
    const A below = is_relu ? A(0) : x * negative_slope;
    out[i] = x < 0 ? below : x;
  }
}

// BYTES of a register; rows of a tile of 1 .. 4 vectors for the products (R) and the outer products (O), 0 where none is.
#define PCPERC_CONV_KERNELS(SUFFIX, TARGET, BYTES, R1, R2, R3, R4, O1, O2, O3, O4)                                           \
  template <class A>                                                                                                         \
  TARGET void row_products_##SUFFIX(const RowProducts<A, A>& t) {                                                            \
    row_products<MultiplyAdd<A, BYTES>, R1, R2, R3, R4>(t);                                                                  \
  }                                                                                                                          \
  template <class A>                                                                                                         \
  TARGET void scaled_rows_##SUFFIX(const RowProducts<A, A>& t) { scaled_rows<A, BYTES>(t); }                                 \
  template <class A>                                                                                                         \
  TARGET void outer_products_##SUFFIX(const OuterProducts<A, A>& t) {                                                        \
    outer_products<MultiplyAdd<A, BYTES>, O1, O2, O3, O4>(t);                                                                \
  }                                                                                                                          \
  template <class A>                                                                                                         \
  TARGET void scaled_outer_products_##SUFFIX(const OuterProducts<A, A>& t) { scaled_outer_products<A, BYTES>(t); }           \
  template <class A>                                                                                                         \
  TARGET void finish_row_##SUFFIX(const A* sums, const A* residual, A negative_slope, int64_t count, A* out) {               \
    finish_row(sums, residual, negative_slope, count, out);                                                                  \
  }                                                                                                                          \
  template <class A>                                                                                                         \
  constexpr ConvKernels<A> kKernels_##SUFFIX {                                                                               \
    widest_tile(R2, R3, R4), row_products_##SUFFIX<A>, scaled_rows_##SUFFIX<A>, outer_products_##SUFFIX<A>,                  \
        scaled_outer_products_##SUFFIX<A>, finish_row_##SUFFIX<A>                                                            \
  }

// The tiles are as large as the registers hold, weights and a factor beside them: 32 with AVX-512, 16 with less on x86.
#ifdef PCPERC_X86
PCPERC_CONV_KERNELS(base, , 16, 2, 0, 0, 0, 2, 0, 0, 0);
PCPERC_CONV_KERNELS(avx2, PCPERC_TARGET_AVX2, 32, 6, 0, 0, 0, 6, 0, 0, 0);
PCPERC_CONV_KERNELS(avx512, PCPERC_TARGET_AVX512, 64, 10, 8, 8, 6, 16, 8, 8, 4);
#else
PCPERC_CONV_KERNELS(base, , 16, 6, 0, 0, 0, 4, 0, 0, 0);
#endif

}  // namespace

template <class A>
const ConvKernels<A>& conv_kernels(Capability capability) {
#ifdef PCPERC_X86
  if (capability >= Capability::kAvx512) return kKernels_avx512<A>;
  if (capability == Capability::kAvx2) return kKernels_avx2<A>;
#endif
  return kKernels_base<A>;
}

template const ConvKernels<float>& conv_kernels<float>(Capability);
template const ConvKernels<double>& conv_kernels<double>(Capability);

#ifdef PCPERC_X86
PCPERC_TARGET_AVX512_BF16 void bfloat16_row_products(const RowProducts<BFloat16Pair, float>& t) {
  row_products<MultiplyAddPairs, 10, 8, 8, 6>(t);
}

PCPERC_TARGET_AVX512_BF16 void bfloat16_outer_products(const OuterProducts<BFloat16Pair, float>& t) {
  outer_products<MultiplyAddPairs, 16, 8, 8, 4>(t);
}

PCPERC_TARGET_AVX512_BF16 void bfloat16_gather_pairs(const torch::headeronly::BFloat16* feats, int64_t channels,
                                                     const int32_t* rows, int64_t count, BFloat16Pair* to, int64_t to_stride) {
  gather_pairs(reinterpret_cast<const uint16_t*>(feats), channels, rows, count, to, to_stride);
}
#endif

}  // namespace pcperc
