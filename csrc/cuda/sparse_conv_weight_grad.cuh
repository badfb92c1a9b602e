// SPDX-License-Identifier: Apache-2.0
#pragma once
// The kernels of the weight and bias gradients. None uses atomics: splits of the output rows give partial sums, which are
// added in order.
#include "cuda/sparse_conv_shape.cuh"
#include "cuda/tile_pipeline.cuh"

namespace pcperc {

template <class T>
struct WeightGradArgs {
  using Sum = Accumulator<T>;
  const T *feats, *grad;
  const int32_t* neighbors;
  const int32_t* row_order;  // the output row of each column of neighbors, or null: its own
  Sum* partial;        // (splits, K, Cin / groups, Cout)
  int64_t split_rows;  // output rows of a split
  ConvShape shape;
};

constexpr int kMaxPairs = 1024, kWindow = 512;  // pairs listed together, and rows looked at together

// Pairs of one tap, in ascending order of the output row.
struct PairList {
  int32_t in_rows[kMaxPairs], out_rows[kMaxPairs];
};

// List the pairs of the rows from `begin` on, until `end` or a list that may not hold another window; all threads get their
// number and the row reached.
template <int kThreads>
__device__ int list_pairs(PairList& pairs, const int32_t* tap_neighbors, const int32_t* row_order, const ConvShape& shape,
                          int64_t& begin, int64_t end) {
  constexpr int parts = kWindow / kThreads, warps = kThreads / 32;
  __shared__ int counts[parts * warps];  // of 32 rows each, in their order
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int count = 0;
  for (; begin < end && count + kWindow <= kMaxPairs; begin += kWindow) {
    int32_t rows[parts], out_rows[parts];
#pragma unroll
    for (int i = 0; i < parts; ++i) {
      const int64_t m = begin + i * kThreads + threadIdx.x;
      rows[i] = m < end ? tap_neighbors[m] : -1;
      out_rows[i] = row_order && m < end ? row_order[m] : static_cast<int32_t>(m);
      if (out_rows[i] < 0 || out_rows[i] >= shape.num_out) rows[i] = -1;
    }
    unsigned ballots[parts];
#pragma unroll
    for (int i = 0; i < parts; ++i) {
      ballots[i] = __ballot_sync(0xffffffff, shape.is_input_row(rows[i]));
      if (lane == 0) counts[i * warps + warp] = __popc(ballots[i]);
    }
    __syncthreads();  // also behind the last reads of the list before
#pragma unroll
    for (int i = 0; i < parts; ++i) {
      int place = count + __popc(ballots[i] & ((1u << lane) - 1));
#pragma unroll
      for (int w = 0; w < warps; ++w) {
        const int others = counts[i * warps + w];
        if (w < warp) place += others;
        count += others;
      }
      if (!shape.is_input_row(rows[i])) continue;
      pairs.in_rows[place] = rows[i];
      pairs.out_rows[place] = out_rows[i];
    }
    __syncthreads();
  }
  return count;
}

// Tensor cores cut the bits off that a sum has no room for, so that a long one would come out too small: the sums of so many
// rows are added outside of them.
constexpr int64_t kSegmentRows = 1 << 15;

// partial[y, tap] = sum over the pairs of split y of feats[in]^T grad[out]. Block (x, y) owns one kRows x kCols piece of the
// weights of one group and tap, and the output rows [y * split_rows, (y + 1) * split_rows).
template <class Tile, bool kAligned>
__global__ void __launch_bounds__(Tile::kThreads) weight_grad_kernel(WeightGradArgs<typename Tile::Value> args) {
  using T = typename Tile::Value;
  using Sum = typename Tile::Sum;
  extern __shared__ __align__(128) unsigned char memory[];
  __shared__ PairList pairs;
  const ConvShape& shape = args.shape;
  const int64_t row_tiles = ceil_div(shape.in_width, Tile::kRows), col_tiles = ceil_div(shape.out_width, Tile::kCols);
  const int64_t col = blockIdx.x % col_tiles * Tile::kCols, row = blockIdx.x / col_tiles % row_tiles * Tile::kRows;
  const int64_t group = blockIdx.x / (col_tiles * row_tiles) % shape.groups;
  const int64_t tap = blockIdx.x / (col_tiles * row_tiles * shape.groups);
  const T* feats = args.feats + group * shape.in_width + row;
  const T* grad = args.grad + group * shape.out_width + col;
  Sum* to = args.partial + (blockIdx.y * shape.volume + tap) * shape.in_width * shape.out_channels + group * shape.out_width;
  const int64_t end = min((blockIdx.y + 1) * args.split_rows, shape.num_out);
  int64_t begin = blockIdx.y * args.split_rows;
  bool is_first = true;
  do {
    const int64_t stop = min(begin + kSegmentRows, end);
    Tile tile;
    while (begin < stop) {
      const int count = list_pairs<Tile::kThreads>(pairs, args.neighbors + tap * shape.num_out, args.row_order, shape,
                                                      begin, stop);
      int first = 0;
      run_pipeline(tile, reinterpret_cast<T*>(memory), static_cast<int>(ceil_div(count, Tile::kDepth)), [&](T* a, T* b) {
        load_rows<Tile, kAligned, Tile::kDepth, Tile::kRows, Tile::kStrideA>(
            a, shape.in_width - row, kAllPieces, feats, [&](int p) -> const T* {
              return first + p < count ? feats + pairs.in_rows[first + p] * shape.in_channels : nullptr;
            });
        load_rows<Tile, kAligned, Tile::kDepth, Tile::kCols, Tile::kStrideB>(
            b, shape.out_width - col, kAllPieces, grad, [&](int p) -> const T* {
              return first + p < count ? grad + pairs.out_rows[first + p] * shape.out_channels : nullptr;
            });
        first += Tile::kDepth;
      }, [] { return kAllPieces; });
    }
    Sum* sums = reinterpret_cast<Sum*>(memory);
    tile.store(sums, 0);
    __syncthreads();
    for (int i = threadIdx.x; i < Tile::kRows * Tile::kCols; i += Tile::kThreads) {
      const int64_t in = row + i / Tile::kCols, out = col + i % Tile::kCols;
      if (in >= shape.in_width || out >= shape.out_width) continue;
      const Sum sum = sums[i / Tile::kCols * Tile::kStrideSums + i % Tile::kCols];
      Sum& total = to[in * shape.out_channels + out];
      total = is_first ? sum : total + sum;
    }
    __syncthreads();
    is_first = false;
  } while (begin < end);
}

constexpr int kGradTaps = 8;  // taps whose sums a thread keeps at a time

// The same for groups of few channels. A thread owns kVector neighbouring weights of kGradTaps taps and every blockDim.y-th
// row of the split; the rows of the block are added up in a fixed tree. kVector > 1 is for the depthwise convolution.
template <class T, int kVector>
__global__ void __launch_bounds__(kThreads) narrow_weight_grad_kernel(WeightGradArgs<T> args) {
  using Sum = Accumulator<T>;
  __shared__ Vector<Sum, kVector> lanes[kThreads];
  const ConvShape& shape = args.shape;
  const int64_t tap_size = shape.in_width * shape.out_channels, tap_blocks = ceil_div(shape.volume, kGradTaps);
  const int64_t weight = (blockIdx.x / tap_blocks * blockDim.x + threadIdx.x) * kVector;  // within a tap
  const int64_t first_tap = blockIdx.x % tap_blocks * kGradTaps;
  const int64_t out = weight % shape.out_channels, in = out / shape.out_width * shape.in_width + weight / shape.out_channels;
  const int64_t end = min((blockIdx.y + 1) * args.split_rows, shape.num_out);
  Vector<Sum, kVector> sums[kGradTaps] = {};
  for (int64_t m = blockIdx.y * args.split_rows + threadIdx.y; m < end && weight < tap_size; m += blockDim.y) {
    const int64_t row = args.row_order ? args.row_order[m] : m;
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

constexpr int kSumColumns = 32, kSumLanes = 8;

// partial[y, channel] = sum of grad over the output rows of split y. Block (x, y) owns 32 channels; its 8 lanes take every
// eighth row, and are added in order.
template <class T, class Sum>
__global__ void __launch_bounds__(kSumColumns * kSumLanes)
    bias_grad_kernel(const T* grad, Sum* partial, int64_t num_out, int64_t out_channels, int64_t split_rows) {
  __shared__ Sum lanes[kSumLanes][kSumColumns];
  const int64_t channel = blockIdx.x * int64_t{kSumColumns} + threadIdx.x;
  const int64_t begin = blockIdx.y * split_rows, end = min(begin + split_rows, num_out);
  Sum sum = 0;
  for (int64_t m = begin + threadIdx.y; m < end && channel < out_channels; m += kSumLanes) {
    sum += static_cast<Sum>(grad[m * out_channels + channel]);
  }
  lanes[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || channel >= out_channels) return;
  for (int lane = 1; lane < kSumLanes; ++lane) sum += lanes[lane][threadIdx.x];
  partial[blockIdx.y * out_channels + channel] = sum;
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
