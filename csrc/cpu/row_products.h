// SPDX-License-Identifier: Apache-2.0
#pragma once
// The inner loops of the CPU convolution: gathered rows times the weights of one tap, added to rows of sums. A tile of rows
// and columns of sums is held in registers. Each sum runs in one fixed order, over the channels and then over the taps, so the
// result of a row depends neither on the rows it is computed with nor on the shape of the tile.
#include <algorithm>

#include "cpu/vectors.h"

namespace pcperc {

// What a kernel works on: `sums[out_rows[i]] += feats[in_rows[i]] @ weight` for the pairs i < count.
template <class In, class A>
struct RowProducts {
  const In* feats;                     // (N, stride), the first `channels` of a row are used
  int64_t stride, channels;
  const int32_t *in_rows, *out_rows;   // (count), out_rows each at most once
  int64_t count;
  const In* weight;                    // panels (channels, width, lanes of A) of panel_width vectors each
  A* sums;                             // (rows, sums_stride)
  int64_t sums_stride, vectors;
  // Bytes of each row that are fetched ahead of their use, 0 for none; in_rows must then reach kAheadPairs past `count`.
  int64_t ahead_bytes;
};

constexpr int64_t kAheadPairs = 64;

constexpr int64_t widest_tile(int r2, int r3, int r4) { return r4 ? 4 : r3 ? 3 : r2 ? 2 : 1; }

// The columns are cut into panels as wide as a tile can be, or a little less so that none is much narrower than the others.
PCPERC_INLINE int64_t panel_width(int64_t vectors_left, int64_t widest) {
  const int64_t panels = (vectors_left + widest - 1) / widest;
  return (vectors_left + panels - 1) / panels;
}

// How many pairs ahead a row is fetched: far enough to come from memory, near enough to be in the first cache still.
PCPERC_INLINE int64_t pairs_ahead(int64_t row_bytes) { return std::min(kAheadPairs, 4096 / std::max<int64_t>(row_bytes, 64) + 4); }

PCPERC_INLINE void fetch_row(const void* row, int64_t bytes) {
  for (int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(static_cast<const char*>(row) + b);
}

// How a kernel multiplies: numbers of type In by In, with sums of type Sum, in registers of kBytes.
template <class A, int kRegisterBytes>
struct MultiplyAdd {
  static constexpr int kBytes = kRegisterBytes;
  using In = A;
  using Sum = A;
  using Weight = Register<A, kBytes>;
  static PCPERC_INLINE const Weight& weight_at(const A* from) { return register_at<kBytes>(from); }
  static PCPERC_INLINE void step(Register<A, kBytes>& sum, A x, const Weight& w) { sum += x * w; }
};

// R rows from pair `first` on, times V vectors of columns from `vector` on. Rows past the last pair repeat the first one and
// leave their sums in a spare row.
template <class Op, int R, int V, bool kRagged>
PCPERC_INLINE void row_tile(const RowProducts<typename Op::In, typename Op::Sum>& t, int64_t first, int64_t vector) {
  using In = typename Op::In;
  using A = typename Op::Sum;
  constexpr int kRegisters = V * kVectorBytes / Op::kBytes, lanes = Op::kBytes / sizeof(A);
  A spare[kRegisters * lanes];
  const In* in[R];
  A* out[R];
  Register<A, Op::kBytes> sum[R][kRegisters];
  PCPERC_UNROLL
  for (int r = 0; r < R; ++r) {
    const bool is_surplus = kRagged && first + r >= t.count;
    const int64_t i = is_surplus ? first : first + r;
    in[r] = t.feats + t.in_rows[i] * t.stride;
    A* const start = t.sums + t.out_rows[i] * t.sums_stride + vector * kLanes<A>;
    out[r] = is_surplus ? spare : start;
    PCPERC_UNROLL
    for (int v = 0; v < kRegisters; ++v) sum[r][v] = register_at<Op::kBytes>(start + v * lanes);
  }
  const In* weight = t.weight + vector * t.channels * kLanes<In>;
  for (int64_t c = 0; c < t.channels; ++c, weight += V * kLanes<In>) {
    typename Op::Weight w[kRegisters];
    PCPERC_UNROLL
    for (int v = 0; v < kRegisters; ++v) w[v] = Op::weight_at(weight + v * lanes);
    PCPERC_UNROLL
    for (int r = 0; r < R; ++r) {
      const In x = in[r][c];
      PCPERC_UNROLL
      for (int v = 0; v < kRegisters; ++v) Op::step(sum[r][v], x, w[v]);
    }
  }
  PCPERC_UNROLL
  for (int r = 0; r < R; ++r) {
    PCPERC_UNROLL
    for (int v = 0; v < kRegisters; ++v) register_at<Op::kBytes>(out[r] + v * lanes) = sum[r][v];
  }
}

template <class Op, int R, int V>
PCPERC_INLINE void row_panel(const RowProducts<typename Op::In, typename Op::Sum>& t, int64_t vector) {
  const int64_t ahead_bytes = vector == 0 ? t.ahead_bytes : 0, ahead = pairs_ahead(ahead_bytes);
  int64_t first = 0;
  for (; first + R <= t.count; first += R) {
    if (ahead_bytes > 0) {
      for (int r = 0; r < R; ++r) fetch_row(t.feats + t.in_rows[first + ahead + r] * t.stride, ahead_bytes);
    }
    row_tile<Op, R, V, false>(t, first, vector);
  }
  if (t.count - first > R / 2) {
    row_tile<Op, R, V, true>(t, first, vector);
  } else if (first < t.count) {
    row_tile<Op, (R + 1) / 2, V, true>(t, first, vector);
  }
}

// R1 .. R4: rows of a tile of 1 .. 4 vectors; 0 where no tile is that wide.
template <class Op, int R1, int R2, int R3, int R4>
PCPERC_INLINE void row_products(const RowProducts<typename Op::In, typename Op::Sum>& t) {
  constexpr int64_t widest = widest_tile(R2, R3, R4);
  for (int64_t v = 0; v < t.vectors;) {
    const int64_t width = panel_width(t.vectors - v, widest);
    if constexpr (R4 > 0) { if (width == 4) row_panel<Op, R4, 4>(t, v); }
    if constexpr (R3 > 0) { if (width == 3) row_panel<Op, R3, 3>(t, v); }
    if constexpr (R2 > 0) { if (width == 2) row_panel<Op, R2, 2>(t, v); }
    if (width == 1) row_panel<Op, R1, 1>(t, v);
    v += width;
  }
}

// The same for groups of one channel in and out: weight (vectors, lanes) scales the columns, `channels` of them.
template <class A, int kBytes>
PCPERC_INLINE void scaled_rows(const RowProducts<A, A>& t) {
  constexpr int64_t lanes = kBytes / sizeof(A);
  const int64_t whole = t.channels / lanes * lanes, ahead = pairs_ahead(t.ahead_bytes);
  for (int64_t i = 0; i < t.count; ++i) {
    if (t.ahead_bytes > 0) fetch_row(t.feats + t.in_rows[i + ahead] * t.stride, t.ahead_bytes);
    const A* in = t.feats + t.in_rows[i] * t.stride;
    A* out = t.sums + t.out_rows[i] * t.sums_stride;
    for (int64_t c = 0; c < whole; c += lanes) {
      register_at<kBytes>(out + c) += register_at<kBytes>(in + c) * register_at<kBytes>(t.weight + c);
    }
    for (int64_t c = whole; c < t.channels; ++c) out[c] += in[c] * t.weight[c];
  }
}

}  // namespace pcperc
