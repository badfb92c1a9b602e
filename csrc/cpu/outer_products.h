// SPDX-License-Identifier: Apache-2.0
#pragma once
// The inner loops of the weight gradient: outer products of gathered rows, summed over the pairs in their order.
#include "cpu/row_products.h"

namespace pcperc {

// What a kernel works on: `sums[i] += left[left_rows[p], i] * right[right_rows[p]]` over the pairs p < count in order, for
// `channels` rows i of sums.
template <class In, class A>
struct OuterProducts {
  const In* left;
  int64_t left_stride, channels;
  const In* right;
  int64_t right_stride, vectors;  // of the sums
  const int32_t *left_rows, *right_rows;
  int64_t count;
  A* sums;  // (channels, sums_stride)
  int64_t sums_stride;
  // Bytes of each row that are fetched ahead of their use, 0 for none; the lists must then reach kAheadPairs past `count`.
  int64_t left_ahead_bytes, right_ahead_bytes;
};

// Fetches the rows of the pairs to come.
template <class In, class A>
struct PairFetch {
  const OuterProducts<In, A>& t;
  const int64_t left_pairs = pairs_ahead(t.left_ahead_bytes), right_pairs = pairs_ahead(t.right_ahead_bytes);

  PCPERC_INLINE void operator()(int64_t p) const {
    fetch_row(t.left + t.left_rows[p + left_pairs] * t.left_stride, t.left_ahead_bytes);
    fetch_row(t.right + t.right_rows[p + right_pairs] * t.right_stride, t.right_ahead_bytes);
  }
};

template <class Op, int R, int V, bool kFetch>
PCPERC_INLINE void outer_tile(const OuterProducts<typename Op::In, typename Op::Sum>& t, int64_t channel, int64_t vector) {
  using In = typename Op::In;
  using A = typename Op::Sum;
  constexpr int kBytes = Op::kBytes, kRegisters = V * kVectorBytes / kBytes, lanes = kBytes / sizeof(A);
  const PairFetch<In, A> fetch_pair{t};
  Register<A, kBytes> sum[R][kRegisters];
  A* const sums = t.sums + channel * t.sums_stride + vector * kLanes<A>;
  PCPERC_UNROLL
  for (int r = 0; r < R; ++r) {
    PCPERC_UNROLL
    for (int v = 0; v < kRegisters; ++v) sum[r][v] = register_at<kBytes>(sums + r * t.sums_stride + v * lanes);
  }
  for (int64_t p = 0; p < t.count; ++p) {
    if (kFetch) fetch_pair(p);
    const In* left = t.left + t.left_rows[p] * t.left_stride + channel;
    const In* right = t.right + t.right_rows[p] * t.right_stride + vector * kLanes<In>;
    typename Op::Weight g[kRegisters];
    PCPERC_UNROLL
    for (int v = 0; v < kRegisters; ++v) g[v] = Op::weight_at(right + v * lanes);
    PCPERC_UNROLL
    for (int r = 0; r < R; ++r) {
      PCPERC_UNROLL
      for (int v = 0; v < kRegisters; ++v) Op::step(sum[r][v], left[r], g[v]);
    }
  }
  PCPERC_UNROLL
  for (int r = 0; r < R; ++r) {
    PCPERC_UNROLL
    for (int v = 0; v < kRegisters; ++v) register_at<kBytes>(sums + r * t.sums_stride + v * lanes) = sum[r][v];
  }
}

// All channels from `channel` on in tiles of R, then of half as many, and so on.
template <class Op, int R, int V>
PCPERC_INLINE void outer_panel(const OuterProducts<typename Op::In, typename Op::Sum>& t, int64_t channel, int64_t vector) {
  for (; channel + R <= t.channels; channel += R) {
    if (channel == 0 && vector == 0 && t.left_ahead_bytes > 0) {
      outer_tile<Op, R, V, true>(t, channel, vector);
    } else {
      outer_tile<Op, R, V, false>(t, channel, vector);
    }
  }
  if constexpr (R > 1) outer_panel<Op, R / 2, V>(t, channel, vector);
}

// R1 .. R4: rows of a tile of 1 .. 4 vectors; 0 where no tile is that wide.
template <class Op, int R1, int R2, int R3, int R4>
PCPERC_INLINE void outer_products(const OuterProducts<typename Op::In, typename Op::Sum>& t) {
  constexpr int64_t widest = widest_tile(R2, R3, R4);
  for (int64_t v = 0; v < t.vectors;) {
    const int64_t width = panel_width(t.vectors - v, widest);
    if constexpr (R4 > 0) { if (width == 4) outer_panel<Op, R4, 4>(t, 0, v); }
    if constexpr (R3 > 0) { if (width == 3) outer_panel<Op, R3, 3>(t, 0, v); }
    if constexpr (R2 > 0) { if (width == 2) outer_panel<Op, R2, 2>(t, 0, v); }
    if (width == 1) outer_panel<Op, R1, 1>(t, 0, v);
    v += width;
  }
}

// The same for groups of one channel in and out: `sums[c] += left[left_rows[p], c] * right[right_rows[p], c]`.
template <class A, int kBytes>
PCPERC_INLINE void scaled_outer_products(const OuterProducts<A, A>& t) {
  constexpr int64_t lanes = kBytes / sizeof(A), width = 4 * lanes;
  const int64_t whole = t.channels / width * width;
  const PairFetch<A, A> fetch_pair{t};
  for (int64_t c = 0; c < whole; c += width) {
    Register<A, kBytes> sum[4];
    PCPERC_UNROLL
    for (int v = 0; v < 4; ++v) sum[v] = register_at<kBytes>(t.sums + c + v * lanes);
    for (int64_t p = 0; p < t.count; ++p) {
      if (c == 0 && t.left_ahead_bytes > 0) fetch_pair(p);
      const A* left = t.left + t.left_rows[p] * t.left_stride + c;
      const A* right = t.right + t.right_rows[p] * t.right_stride + c;
      PCPERC_UNROLL
      for (int v = 0; v < 4; ++v) sum[v] += register_at<kBytes>(left + v * lanes) * register_at<kBytes>(right + v * lanes);
    }
    PCPERC_UNROLL
    for (int v = 0; v < 4; ++v) register_at<kBytes>(t.sums + c + v * lanes) = sum[v];
  }
  for (int64_t p = 0; p < t.count; ++p) {
    const A *left = t.left + t.left_rows[p] * t.left_stride, *right = t.right + t.right_rows[p] * t.right_stride;
    for (int64_t c = whole; c < t.channels; ++c) t.sums[c] += left[c] * right[c];
  }
}

}  // namespace pcperc
