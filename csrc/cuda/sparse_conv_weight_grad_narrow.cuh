// SPDX-License-Identifier: Apache-2.0
#pragma once
// The weight gradient for groups of few channels, where a pair costs less than listing it, and the bias gradient. None uses
// atomics: splits of the rows give partial sums, which are added in order.
#include "common/dispatch.h"
#include "cuda/sparse_conv_shape.cuh"

namespace pcperc {

template <class T>
struct NarrowGradArgs {
  const T *feats, *grad;
  const int32_t *neighbors, *row_order;
  Accumulator<T>* partial;  // (splits, K, Cin / groups, Cout)
  int64_t split_columns;    // of the table, in a split
  ConvShape shape;
};

constexpr int kGradTaps = 8;  // taps whose sums a thread keeps at a time

// A thread owns kVector neighbouring weights of kGradTaps taps and every blockDim.y-th column of the split; the rows of the
// block are added up in a fixed tree. kVector > 1 is for the depthwise convolution.
template <class T, int kVector>
__global__ void __launch_bounds__(kThreads) narrow_weight_grad_kernel(NarrowGradArgs<T> args) {
  using Sum = Accumulator<T>;
  __shared__ Vector<Sum, kVector> lanes[kThreads];
  const ConvShape& shape = args.shape;
  const int64_t tap_size = shape.in_width * shape.out_channels, tap_blocks = ceil_div(shape.volume, kGradTaps);
  const int64_t weight = (blockIdx.x / tap_blocks * blockDim.x + threadIdx.x) * kVector;  // within a tap
  const int64_t first_tap = blockIdx.x % tap_blocks * kGradTaps;
  const int64_t out = weight % shape.out_channels, in = out / shape.out_width * shape.in_width + weight / shape.out_channels;
  const int64_t end = min((blockIdx.y + 1) * args.split_columns, shape.num_out);
  Vector<Sum, kVector> sums[kGradTaps] = {};
  for (int64_t m = blockIdx.y * args.split_columns + threadIdx.y; m < end && weight < tap_size; m += blockDim.y) {
    const int32_t row = args.row_order ? args.row_order[m] : static_cast<int32_t>(m);
    if (row < 0 || row >= shape.num_out) continue;
    const auto grad = load_vector<kVector>(args.grad + row * shape.out_channels + out);
    int32_t rows[kGradTaps];
    Vector<T, kVector> values[kGradTaps];
#pragma unroll
    for (int i = 0; i < kGradTaps; ++i) {
      rows[i] = first_tap + i < shape.volume ? args.neighbors[(first_tap + i) * shape.num_out + m] : -1;
    }
#pragma unroll
    for (int i = 0; i < kGradTaps; ++i) {
      if (shape.is_input_row(rows[i])) values[i] = load_vector<kVector>(args.feats + rows[i] * shape.in_channels + in);
    }
#pragma unroll
    for (int i = 0; i < kGradTaps; ++i) {
      if (!shape.is_input_row(rows[i])) continue;
#pragma unroll
      for (int v = 0; v < kVector; ++v) {
        sums[i].values[v] += static_cast<Sum>(values[i].values[v]) * static_cast<Sum>(grad.values[v]);
      }
    }
  }
  const int place = threadIdx.y * blockDim.x + threadIdx.x;
#pragma unroll
  for (int i = 0; i < kGradTaps; ++i) {
    lanes[place] = sums[i];
    for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
      __syncthreads();
      if (threadIdx.y >= half) continue;
#pragma unroll
      for (int v = 0; v < kVector; ++v) lanes[place].values[v] += lanes[place + half * blockDim.x].values[v];
    }
    if (threadIdx.y == 0 && weight < tap_size && first_tap + i < shape.volume) {
      Sum* to = args.partial + (blockIdx.y * shape.volume + first_tap + i) * tap_size + weight;
#pragma unroll
      for (int v = 0; v < kVector; ++v) to[v] = lanes[place].values[v];
    }
    __syncthreads();
  }
}

// partial[y, channel] = sum of grad over the rows [y * split_rows, ...) of split y. A thread owns kVector channels and every
// blockDim.y-th row of the split; the rows of the block are added up in a fixed tree.
template <class T, int kVector>
__global__ void __launch_bounds__(kThreads)
    bias_grad_kernel(const T* grad, Accumulator<T>* partial, int64_t num_out, int64_t out_channels, int64_t split_rows) {
  using Sum = Accumulator<T>;
  __shared__ Vector<Sum, kVector> lanes[kThreads];
  const int64_t channel = (blockIdx.x * int64_t{blockDim.x} + threadIdx.x) * kVector;
  const int64_t begin = blockIdx.y * split_rows, end = min(begin + split_rows, num_out);
  Vector<Sum, kVector> sums = {};
  if (channel < out_channels) {
#pragma unroll 4
    for (int64_t m = begin + threadIdx.y; m < end; m += blockDim.y) {
      const auto values = load_vector<kVector>(grad + m * out_channels + channel);
#pragma unroll
      for (int v = 0; v < kVector; ++v) sums.values[v] += static_cast<Sum>(values.values[v]);
    }
  }
  const int place = threadIdx.y * blockDim.x + threadIdx.x;
  lanes[place] = sums;
  for (unsigned half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y >= half) continue;
#pragma unroll
    for (int v = 0; v < kVector; ++v) lanes[place].values[v] += lanes[place + half * blockDim.x].values[v];
  }
  if (threadIdx.y != 0 || channel >= out_channels) return;
#pragma unroll
  for (int v = 0; v < kVector; ++v) partial[blockIdx.y * out_channels + channel + v] = lanes[place].values[v];
}

// output[i] = sum of partial[split, i] over the splits, in order.
template <class Sum>
__global__ void sum_splits_kernel(const Sum* partial, int64_t splits, int64_t count, Sum* output) {
  PCPERC_GRID_LOOP(i, count) {
    Sum sum = 0;
#pragma unroll 8
    for (int64_t split = 0; split < splits; ++split) sum += partial[split * count + i];
    output[i] = sum;
  }
}

}  // namespace pcperc
