// SPDX-License-Identifier: Apache-2.0
#pragma once
// The inner loops of the CPU convolution, compiled for every instruction set of cpu/capability.h.
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "cpu/bfloat16_products.h"
#include "cpu/capability.h"
#include "cpu/outer_products.h"
#include "cpu/row_products.h"

namespace pcperc {

// A is the type of the sums: double or float.
template <class A>
struct ConvKernels {
  int64_t widest;  // vectors of a panel of weights for row_products, at most
  void (*row_products)(const RowProducts<A, A>&);
  void (*scaled_rows)(const RowProducts<A, A>&);
  void (*outer_products)(const OuterProducts<A, A>&);
  void (*scaled_outer_products)(const OuterProducts<A, A>&);
  // out[i] = act(sums[i] + residual[i]) for i < count; residual may be null.
  void (*finish_row)(const A* sums, const A* residual, A negative_slope, int64_t count, A* out);
};

template <class A>
const ConvKernels<A>& conv_kernels(Capability capability);

// Half-precision numbers T as float32, and back: rounded to nearest even.
template <class T>
struct HalfConversion {
  // to[i] = feats[rows[i]] for i < count; rows must reach kAheadPairs past `count`, for what is fetched ahead.
  void (*gather)(const T* feats, int64_t channels, const int32_t* rows, int64_t count, float* to, int64_t to_stride);
  void (*widen)(const T* from, int64_t count, float* to);
  void (*narrow)(const float* from, int64_t count, T* to);
};

template <class T>
const HalfConversion<T>& half_conversion(Capability capability);

#ifdef PCPERC_X86
// For kAvx512Bf16, the first with pairs of channels and the second with pairs of rows: to[i] are the rows rows[2 i] and
// rows[2 i + 1] of feats, or zeros behind the last one. rows must reach kAheadPairs past `count`.
void bfloat16_row_products(const RowProducts<BFloat16Pair, float>&);
void bfloat16_outer_products(const OuterProducts<BFloat16Pair, float>&);
void bfloat16_gather_pairs(const torch::headeronly::BFloat16* feats, int64_t channels, const int32_t* rows, int64_t count,
                           BFloat16Pair* to, int64_t to_stride);
#endif

// The pairs of a block of `rows` entries of a tap's row of the table: writes the entries in [0, num_in) to in_rows, their
// positions to out_rows and returns how many they are. Up to 15 entries behind them are overwritten.
using FindPairs = int64_t (*)(const int32_t* entries, int64_t rows, int64_t num_in, int32_t* in_rows, int32_t* out_rows);

FindPairs find_pairs(Capability capability);

}  // namespace pcperc
