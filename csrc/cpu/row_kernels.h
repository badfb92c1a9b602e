// SPDX-License-Identifier: Apache-2.0
#pragma once
// The two inner loops of the CPU convolution, on panels of `2 * lanes` columns held in registers. They are written with the
// compiler's vector types and compiled for AVX-512, AVX + FMA and the base architecture; the processor picks at load time.
// Each sum runs in one fixed order, so the result of a row does not depend on which rows it is computed with.
#include <cstdint>

#if defined(__x86_64__)
#define PCPERC_X86 1
#endif

namespace pcperc {

template <class A>
struct Lanes {
  static constexpr int64_t count = 64 / sizeof(A);
  typedef A Vector __attribute__((vector_size(64), aligned(8)));
};

constexpr int64_t kPanelVectors = 2;
template <class A>
constexpr int64_t kPanel = kPanelVectors * Lanes<A>::count;

// What a kernel works on: `sums[out_rows[i]] += feats[in_rows[i]] @ panel` for the pairs i < count.
template <class A>
struct PairTile {
  const A* feats;           // (N, stride), the first `channels` of a row are used
  int64_t stride, channels;
  const A* panel;           // (channels, kPanel)
  const int32_t* in_rows;   // (count)
  const int32_t* out_rows;  // (count), rows of `sums`, each at most once
  int64_t count;
  A* sums;                  // (rows, kPanel)
};

// What a kernel works on: `sums[i] += left[p, i] * right[p]` for the `count` rows p and `channels` rows i of `sums`.
template <class A>
struct OuterTile {
  const A* left;        // (count, left_stride)
  int64_t left_stride;
  int64_t channels;     // a multiple of kOuterRows
  const A* right;       // (count, right_stride), kPanel columns are used
  int64_t right_stride;
  int64_t count;
  A* sums;              // (channels, sums_stride)
  int64_t sums_stride;
};

constexpr int64_t kOuterRows = 6;  // a multiple of every R below

#define PCPERC_INLINE inline __attribute__((always_inline))

template <class A, int R>
PCPERC_INLINE void pair_tile(const PairTile<A>& t) {
  using Vector = typename Lanes<A>::Vector;
  constexpr int64_t lanes = Lanes<A>::count;
  A spare[kPanel<A>];  // takes what the surplus rows of the last group compute
  for (int64_t first = 0; first < t.count; first += R) {
    const A* in[R];
    A* out[R];
    Vector sum[R][kPanelVectors];
    for (int r = 0; r < R; ++r) {
      const bool is_surplus = first + r >= t.count;
      const int64_t i = is_surplus ? first : first + r;
      in[r] = t.feats + t.in_rows[i] * t.stride;
      out[r] = is_surplus ? spare : t.sums + t.out_rows[i] * kPanel<A>;
      const A* start = t.sums + t.out_rows[i] * kPanel<A>;
      for (int v = 0; v < kPanelVectors; ++v) sum[r][v] = *reinterpret_cast<const Vector*>(start + v * lanes);
    }
    for (int64_t c = 0; c < t.channels; ++c) {
      const Vector w0 = *reinterpret_cast<const Vector*>(t.panel + c * kPanel<A>);
      const Vector w1 = *reinterpret_cast<const Vector*>(t.panel + c * kPanel<A> + lanes);
      for (int r = 0; r < R; ++r) {
        sum[r][0] += in[r][c] * w0;
        sum[r][1] += in[r][c] * w1;
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < kPanelVectors; ++v) *reinterpret_cast<Vector*>(out[r] + v * lanes) = sum[r][v];
    }
  }
}

template <class A, int R>
PCPERC_INLINE void outer_tile(const OuterTile<A>& t) {
  using Vector = typename Lanes<A>::Vector;
  constexpr int64_t lanes = Lanes<A>::count;
  for (int64_t first = 0; first < t.channels; first += R) {
    Vector sum[R][kPanelVectors];
    for (int r = 0; r < R; ++r) {
      const A* start = t.sums + (first + r) * t.sums_stride;
      for (int v = 0; v < kPanelVectors; ++v) sum[r][v] = *reinterpret_cast<const Vector*>(start + v * lanes);
    }
    for (int64_t p = 0; p < t.count; ++p) {
      const A* left = t.left + p * t.left_stride + first;
      const Vector g0 = *reinterpret_cast<const Vector*>(t.right + p * t.right_stride);
      const Vector g1 = *reinterpret_cast<const Vector*>(t.right + p * t.right_stride + lanes);
      for (int r = 0; r < R; ++r) {
        sum[r][0] += left[r] * g0;
        sum[r][1] += left[r] * g1;
      }
    }
    for (int r = 0; r < R; ++r) {
      A* end = t.sums + (first + r) * t.sums_stride;
      for (int v = 0; v < kPanelVectors; ++v) *reinterpret_cast<Vector*>(end + v * lanes) = sum[r][v];
    }
  }
}

// R: as many rows as the registers hold. AVX-512 has 32 registers of a whole Vector, AVX 16 of half a Vector.
template <class A>
void pair_tile_base(const PairTile<A>& t) { pair_tile<A, 1>(t); }
template <class A>
void outer_tile_base(const OuterTile<A>& t) { outer_tile<A, 1>(t); }
#ifdef PCPERC_X86
template <class A>
__attribute__((target("avx512f"))) void pair_tile_avx512(const PairTile<A>& t) { pair_tile<A, 6>(t); }
template <class A>
__attribute__((target("avx512f"))) void outer_tile_avx512(const OuterTile<A>& t) { outer_tile<A, 6>(t); }
template <class A>
__attribute__((target("avx,fma"))) void pair_tile_fma(const PairTile<A>& t) { pair_tile<A, 3>(t); }
template <class A>
__attribute__((target("avx,fma"))) void outer_tile_fma(const OuterTile<A>& t) { outer_tile<A, 3>(t); }
#endif

template <class A>
struct RowKernels {
  void (*pair)(const PairTile<A>&) = pair_tile_base<A>;
  void (*outer)(const OuterTile<A>&) = outer_tile_base<A>;

  RowKernels() {
#ifdef PCPERC_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) {
      pair = pair_tile_avx512<A>, outer = outer_tile_avx512<A>;
    } else if (__builtin_cpu_supports("fma")) {
      pair = pair_tile_fma<A>, outer = outer_tile_fma<A>;
    }
#endif
  }
};

template <class A>
const RowKernels<A>& row_kernels() {
  static const RowKernels<A> kernels;
  return kernels;
}

}  // namespace pcperc
