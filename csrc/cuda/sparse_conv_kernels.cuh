// SPDX-License-Identifier: Apache-2.0
#pragma once
// The two kernels of the sparse convolution. Neither uses atomics: every sum has one owner and one fixed order.
#include <cuda_pipeline.h>

#include "common/sparse_conv_args.h"
#include "cuda/matrix_tiles.cuh"

namespace pcperc {

// Copy 16 bytes to shared memory; values at and behind `valid` become 0. Asynchronous where both sides are aligned, and then
// `valid` is none or all.
template <class T, bool kAligned>
__device__ __forceinline__ void copy_chunk(T* to, const T* from, int64_t valid) {
  constexpr int count = 16 / sizeof(T);
  if constexpr (kAligned) {
    __pipeline_memcpy_async(to, from, 16, valid > 0 ? 0 : 16);
  } else {
    for (int i = 0; i < count; ++i) to[i] = i < valid ? from[i] : T(0.0f);
  }
}

// Run `steps` steps of load(step, a, b) and multiply over a ring of shared-memory stages: the copies of the steps ahead run
// while a step is multiplied. One barrier a step is enough: behind it, all threads have finished with the stage of the step
// before, which is the one filled next. Ends with no copy in flight and all threads past the last multiply.
template <class Tile, class Load>
__device__ __forceinline__ void run_pipeline(Tile& tile, typename Tile::Value* stages, int steps, const Load& load) {
  constexpr int stage_size = Tile::kSizeA + Tile::kSizeB;
  const auto fetch = [&](int step) {
    typename Tile::Value* stage = stages + step % Tile::kStages * stage_size;
    if (step < steps) load(step, stage, stage + Tile::kSizeA);
    __pipeline_commit();
  };
  for (int step = 0; step < Tile::kStages - 1; ++step) fetch(step);
  for (int step = 0; step < steps; ++step) {
    __pipeline_wait_prior(Tile::kStages - 2);
    __syncthreads();
    fetch(step + Tile::kStages - 1);
    const typename Tile::Value* stage = stages + step % Tile::kStages * stage_size;
    tile.multiply(stage, stage + Tile::kSizeA);
  }
  __pipeline_wait_prior(0);
  __syncthreads();
}

// Copy `rows` x `cols` values in 16-byte chunks: row r comes from source(r), or is zero where that is null; values at and
// behind column `valid_cols` are zero. `any` is an address that may be named but is not read.
template <class Tile, bool kAligned, int kRowCount, int kColCount, int kStride, class T, class Source>
__device__ __forceinline__ void load_rows(T* to, int64_t valid_cols, const T* any, const Source& source) {
  constexpr int chunks = kColCount / Tile::kChunk;
  for (int i = threadIdx.x; i < kRowCount * chunks; i += Tile::kThreads) {
    const int row = i / chunks, col = i % chunks * Tile::kChunk;
    const T* from = source(row);
    const int64_t valid = from == nullptr ? 0 : valid_cols - col;
    copy_chunk<T, kAligned>(to + row * kStride + col, valid > 0 ? from + col : any, valid);
  }
}

// The taps under which any row of the tile has a neighbour, in ascending order. All threads get the count.
template <int kThreads, int kRows>
__device__ int find_active_taps(const int32_t* neighbors, const ConvSizes& sizes, int64_t first_row, uint16_t* taps,
                                uint8_t* flags) {
  __shared__ int num_active;
  const int lane = threadIdx.x % 32, volume = static_cast<int>(sizes.volume);
  for (int tap = threadIdx.x / 32; tap < volume; tap += kThreads / 32) {
    bool any = false;
    for (int row = lane; row < kRows; row += 32) {
      const int64_t m = first_row + row;
      any |= m < sizes.num_out && sizes.is_input_row(neighbors[tap * sizes.num_out + m]);
    }
    any = __any_sync(0xffffffff, any);
    if (lane == 0) flags[tap] = any;
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    int count = 0;
    for (int base = 0; base < volume; base += 32) {
      const bool any = base + lane < volume && flags[base + lane];
      const unsigned ballot = __ballot_sync(0xffffffff, any);
      if (any) taps[count + __popc(ballot & ((1u << lane) - 1))] = static_cast<uint16_t>(base + lane);
      count += __popc(ballot);
    }
    if (lane == 0) num_active = count;
  }
  __syncthreads();
  return num_active;
}

// out[m] = bias + sum over taps and input channels. Block (x, y) owns 64 output rows and kCols output channels; its steps are
// the active taps times the slices of kDepth input channels. Dynamic shared memory: 3 bytes a tap.
template <class Tile, bool kAligned>
__global__ void __launch_bounds__(Tile::kThreads)
    convolve_kernel(const typename Tile::Value* feats, const typename Tile::Value* weight, const int32_t* neighbors,
                    const typename Tile::Sum* bias, typename Tile::Value* output, ConvSizes sizes) {
  using T = typename Tile::Value;
  using Sum = typename Tile::Sum;
  __shared__ __align__(128) unsigned char memory[Tile::kBytes];
  extern __shared__ uint16_t taps[];
  const int64_t first_row = blockIdx.x * int64_t{Tile::kRows}, first_col = blockIdx.y * int64_t{Tile::kCols};
  const int num_active = find_active_taps<Tile::kThreads, Tile::kRows>(neighbors, sizes, first_row, taps,
                                                                       reinterpret_cast<uint8_t*>(taps + sizes.volume));
  const int slices = static_cast<int>((sizes.in_channels + Tile::kDepth - 1) / Tile::kDepth);
  const auto load = [&](int step, T* a, T* b) {
    const int64_t tap = taps[step / slices], channel = step % slices * Tile::kDepth;
    load_rows<Tile, kAligned, Tile::kRows, Tile::kDepth, Tile::kStrideA>(
        a, sizes.in_channels - channel, feats, [&](int row) -> const T* {
          const int64_t m = first_row + row;
          const int64_t n = m < sizes.num_out ? neighbors[tap * sizes.num_out + m] : -1;
          return sizes.is_input_row(n) ? feats + n * sizes.in_channels + channel : nullptr;
        });
    load_rows<Tile, kAligned, Tile::kDepth, Tile::kCols, Tile::kStrideB>(
        b, sizes.out_channels - first_col, weight, [&](int row) -> const T* {
          const int64_t c = channel + row;
          return c < sizes.in_channels ? weight + (tap * sizes.in_channels + c) * sizes.out_channels + first_col : nullptr;
        });
  };
  Tile tile;
  run_pipeline(tile, reinterpret_cast<T*>(memory), num_active * slices, load);
  Sum* sums = reinterpret_cast<Sum*>(memory);
  tile.store(sums);
  __syncthreads();
  for (int i = threadIdx.x; i < Tile::kRows * Tile::kCols; i += Tile::kThreads) {
    const int64_t m = first_row + i / Tile::kCols, channel = first_col + i % Tile::kCols;
    if (m >= sizes.num_out || channel >= sizes.out_channels) continue;
    const Sum sum = sums[i / Tile::kCols * Tile::kStrideSums + i % Tile::kCols];
    output[m * sizes.out_channels + channel] = static_cast<T>(sum + (bias ? bias[channel] : Sum(0)));
  }
}

constexpr int kWindow = 512;  // output rows whose pairs are listed at a time

// The pairs of one tap within a window of output rows, in ascending order of the output row.
struct PairWindow {
  int32_t in_rows[kWindow], out_rows[kWindow];
};

// List the pairs of rows [begin, end); all threads get their number.
template <int kThreads>
__device__ int list_pairs(PairWindow& pairs, const int32_t* tap_neighbors, const ConvSizes& sizes, int64_t begin, int64_t end) {
  __shared__ int warp_counts[kThreads / 32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int count = 0;
  for (int base = 0; base < kWindow; base += kThreads) {
    const int64_t m = begin + base + threadIdx.x;
    const int32_t n = m < end ? tap_neighbors[m] : -1;
    const bool present = sizes.is_input_row(n);
    const unsigned ballot = __ballot_sync(0xffffffff, present);
    if (lane == 0) warp_counts[warp] = __popc(ballot);
    __syncthreads();  // also behind the last reads of the list of the window before
    int place = count + __popc(ballot & ((1u << lane) - 1));
    for (int w = 0; w < kThreads / 32; ++w) {
      if (w < warp) place += warp_counts[w];
      count += warp_counts[w];
    }
    if (present) pairs.in_rows[place] = n, pairs.out_rows[place] = static_cast<int32_t>(m);
    __syncthreads();
  }
  return count;
}

// partial[z, tap] = sum over the pairs of split z of feats[in]^T grad[out]. Block (x, y, z) owns one 64 x kCols piece of the
// weights of tap y, and the output rows [z * split_rows, (z + 1) * split_rows).
template <class Tile, bool kAligned>
__global__ void __launch_bounds__(Tile::kThreads)
    weight_grad_kernel(const typename Tile::Value* feats, const typename Tile::Value* grad, const int32_t* neighbors,
                       typename Tile::Sum* partial, ConvSizes sizes, int64_t split_rows) {
  using T = typename Tile::Value;
  using Sum = typename Tile::Sum;
  __shared__ __align__(128) unsigned char memory[Tile::kBytes];
  __shared__ PairWindow pairs;
  const int64_t col_tiles = (sizes.out_channels + Tile::kCols - 1) / Tile::kCols;
  const int64_t first_in = blockIdx.x / col_tiles * Tile::kRows, first_out = blockIdx.x % col_tiles * Tile::kCols;
  const int64_t tap = blockIdx.y, begin = blockIdx.z * split_rows, end = min(begin + split_rows, sizes.num_out);
  Tile tile;
  for (int64_t window = begin; window < end; window += kWindow) {
    const int count = list_pairs<Tile::kThreads>(pairs, neighbors + tap * sizes.num_out, sizes, window, end);
    const auto load = [&](int step, T* a, T* b) {
      const int first = step * Tile::kDepth;
      load_rows<Tile, kAligned, Tile::kDepth, Tile::kRows, Tile::kStrideA>(
          a, sizes.in_channels - first_in, feats, [&](int p) -> const T* {
            return first + p < count ? feats + pairs.in_rows[first + p] * sizes.in_channels + first_in : nullptr;
          });
      load_rows<Tile, kAligned, Tile::kDepth, Tile::kCols, Tile::kStrideB>(
          b, sizes.out_channels - first_out, grad, [&](int p) -> const T* {
            return first + p < count ? grad + pairs.out_rows[first + p] * sizes.out_channels + first_out : nullptr;
          });
    };
    run_pipeline(tile, reinterpret_cast<T*>(memory), (count + Tile::kDepth - 1) / Tile::kDepth, load);
  }
  Sum* sums = reinterpret_cast<Sum*>(memory);
  tile.store(sums);
  __syncthreads();
  Sum* to = partial + (blockIdx.z * sizes.volume + tap) * sizes.in_channels * sizes.out_channels;
  for (int i = threadIdx.x; i < Tile::kRows * Tile::kCols; i += Tile::kThreads) {
    const int64_t in = first_in + i / Tile::kCols, out = first_out + i % Tile::kCols;
    if (in >= sizes.in_channels || out >= sizes.out_channels) continue;
    to[in * sizes.out_channels + out] = sums[i / Tile::kCols * Tile::kStrideSums + i % Tile::kCols];
  }
}

constexpr int kSumColumns = 32, kSumLanes = 8;

// partial[y, channel] = sum of grad over the output rows of split y. Block (x, y) owns 32 channels; its 8 lanes take every
// eighth row, and are added in order.
template <class T, class Sum>
__global__ void __launch_bounds__(kSumColumns * kSumLanes)
    bias_grad_kernel(const T* grad, Sum* partial, ConvSizes sizes, int64_t split_rows) {
  __shared__ Sum lanes[kSumLanes][kSumColumns];
  const int64_t channel = blockIdx.x * int64_t{kSumColumns} + threadIdx.x;
  const int64_t begin = blockIdx.y * split_rows, end = min(begin + split_rows, sizes.num_out);
  Sum sum = 0;
  for (int64_t m = begin + threadIdx.y; m < end && channel < sizes.out_channels; m += kSumLanes) {
    sum += static_cast<Sum>(grad[m * sizes.out_channels + channel]);
  }
  lanes[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || channel >= sizes.out_channels) return;
  for (int lane = 1; lane < kSumLanes; ++lane) sum += lanes[lane][threadIdx.x];
  partial[blockIdx.y * sizes.out_channels + channel] = sum;
}

// output[i] = sum of partial[split, i] over the splits, in order.
template <class Sum>
__global__ void sum_splits_kernel(const Sum* partial, int64_t splits, int64_t count, Sum* output) {
  PCPERC_GRID_LOOP(i, count) {
    Sum sum = 0;
    for (int64_t split = 0; split < splits; ++split) sum += partial[split * count + i];
    output[i] = sum;
  }
}

}  // namespace pcperc
