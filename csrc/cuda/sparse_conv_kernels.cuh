// SPDX-License-Identifier: Apache-2.0
#pragma once
// The forward kernels of the sparse convolution, which are those of the input gradient too: a masked matrix product, and a
// plain sum where a group has too few channels to fill one. Every sum has one owner and one fixed order.
#include "cuda/sparse_conv_shape.cuh"
#include "cuda/tile_pipeline.cuh"

namespace pcperc {

template <class T>
struct ConvArgs {
  using Sum = Accumulator<T>;
  const T *feats, *weight;
  const int32_t* neighbors;
  const int32_t* row_order;  // the output row of each column of neighbors, or null: its own
  const Sum* bias;      // (Cout), or null
  const T* residual;    // (M, Cout), or null
  Sum negative_slope;   // 1: no activation
  T* output;
  ConvShape shape;

  // The output row of a column, or -1 where the order names none.
  __device__ int64_t output_row(int64_t column) const {
    if (!row_order) return column;
    const int64_t row = row_order[column];
    return row < shape.num_out ? row : -1;
  }
};

// Store kVector neighbouring channels of output row m: act(sums + bias + residual), rounded once.
template <int kVector, class T>
__device__ __forceinline__ void store_outputs(const ConvArgs<T>& args, int64_t m, int64_t channel,
                                              const Vector<Accumulator<T>, kVector>& sums) {
  using Sum = Accumulator<T>;
  const int64_t place = m * args.shape.out_channels + channel;
  Vector<T, kVector> result, residual;
  if (args.residual) residual = load_vector<kVector>(args.residual + place);
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    Sum value = sums.values[i];
    if (args.bias) value += args.bias[channel + i];
    if (args.residual) value += static_cast<Sum>(residual.values[i]);
    // A slope of 0 makes 0 of minus infinity too; NaN stays.
    if (value < Sum(0)) value = args.negative_slope == Sum(0) ? Sum(0) : value * args.negative_slope;
    result.values[i] = static_cast<T>(value);
  }
  *reinterpret_cast<Vector<T, kVector>*>(args.output + place) = result;
}

constexpr int kTapChunk = 32;  // taps whose neighbours a block holds at a time: one bit each in a word

// The input rows that a tile sees under kTapChunk taps, absent neighbours -1, and the pieces in which there are any.
template <int kRows>
struct NeighborChunk {
  int32_t rows[kTapChunk][kRows];
  uint32_t pieces[kTapChunk];
};

// Fill the chunk from tap `first_tap` on; all threads get the word of the taps under which any row has a neighbour.
template <int kThreads, int kRows>
__device__ uint32_t load_neighbors(NeighborChunk<kRows>& chunk, const int32_t* neighbors, const ConvShape& shape,
                                   int64_t first_row, int64_t first_tap) {
  const int lane = threadIdx.x % 32;
  for (int tap = threadIdx.x / 32; tap < kTapChunk; tap += kThreads / 32) {
    uint32_t pieces = 0;
#pragma unroll
    for (int row = lane; row < kRows; row += 32) {
      const int64_t m = first_row + row;
      int32_t n = -1;
      if (first_tap + tap < shape.volume && m < shape.num_out) n = neighbors[(first_tap + tap) * shape.num_out + m];
      if (!shape.is_input_row(n)) n = -1;
      chunk.rows[tap][row] = n;
      const uint32_t present = __ballot_sync(0xffffffff, n >= 0);
      const uint32_t both = (present & 0xffff ? 1 : 0) | (present >> 16 ? 2 : 0);
      pieces |= both << (row / 32 * 2);
    }
    if (lane == 0) chunk.pieces[tap] = pieces;
  }
  __syncthreads();
  return __ballot_sync(0xffffffff, chunk.pieces[lane] != 0);
}

// The steps over a word of taps: each tap `slices` times, lowest bit first.
struct TapSteps {
  uint32_t taps;
  int slices, slice = 0;

  __device__ int tap() const { return __ffs(taps) - 1; }
  __device__ void advance() {
    if (++slice == slices) slice = 0, taps &= taps - 1;
  }
};

template <class Tile>
constexpr int kConvolveBytes = Tile::kBytes + static_cast<int>(sizeof(NeighborChunk<Tile::kRows>));

// out[row_order[m]] = act(bias + residual + sum over taps and input channels). A block owns kRows columns of the table and
// kCols output channels of one group, blocks of the same rows side by side; its steps are the taps under which any of its
// rows has a neighbour, in ascending order, times the slices of kDepth input channels. Only pieces of 16 rows that have a
// neighbour are multiplied, so that rows ordered by their taps save work.
template <class Tile, bool kAligned>
__global__ void __launch_bounds__(Tile::kThreads) convolve_kernel(ConvArgs<typename Tile::Value> args) {
  using T = typename Tile::Value;
  using Sum = typename Tile::Sum;
  extern __shared__ __align__(128) unsigned char memory[];
  auto& chunk = *reinterpret_cast<NeighborChunk<Tile::kRows>*>(memory + Tile::kBytes);
  const ConvShape& shape = args.shape;
  const int64_t col_tiles = ceil_div(shape.out_width, Tile::kCols), tiles = shape.groups * col_tiles;
  const int64_t first_row = blockIdx.x / tiles * Tile::kRows, group = blockIdx.x % tiles / col_tiles;
  const int64_t col = blockIdx.x % col_tiles * Tile::kCols, first_col = group * shape.out_width + col;
  const T* feats = args.feats + group * shape.in_width;
  const int slices = static_cast<int>(ceil_div(shape.in_width, Tile::kDepth));
  Tile tile;
  for (int64_t first_tap = 0; first_tap < shape.volume; first_tap += kTapChunk) {
    const uint32_t taps = load_neighbors<Tile::kThreads>(chunk, args.neighbors, shape, first_row, first_tap);
    TapSteps copied{taps, slices}, multiplied{taps, slices};
    const auto load = [&](T* a, T* b) {
      const int tap = copied.tap();
      const int64_t channel = copied.slice * Tile::kDepth;
      load_rows<Tile, kAligned, Tile::kRows, Tile::kDepth, Tile::kStrideA>(
          a, shape.in_width - channel, chunk.pieces[tap], feats, [&](int row) -> const T* {
            const int64_t n = chunk.rows[tap][row];
            return n >= 0 ? feats + n * shape.in_channels + channel : nullptr;
          });
      const T* weight = args.weight + ((first_tap + tap) * shape.in_width + channel) * shape.out_channels + first_col;
      load_rows<Tile, kAligned, Tile::kDepth, Tile::kCols, Tile::kStrideB>(
          b, shape.out_width - col, kAllPieces, args.weight, [&](int row) -> const T* {
            return channel + row < shape.in_width ? weight + row * shape.out_channels : nullptr;
          });
      copied.advance();
    };
    run_pipeline(tile, reinterpret_cast<T*>(memory), __popc(taps) * slices, load, [&] {
      const uint32_t pieces = chunk.pieces[multiplied.tap()];
      multiplied.advance();
      return pieces;
    });
  }
  Sum* sums = reinterpret_cast<Sum*>(memory);
  constexpr int vector = kAligned ? Tile::kChunk : 1, vectors = Tile::kCols / vector;
  for (int from = 0; from < Tile::kRows; from += Tile::kStoreRows) {
    if (from > 0) __syncthreads();
    tile.store(sums, from);
    __syncthreads();
    for (int i = threadIdx.x; i < Tile::kStoreRows * vectors; i += Tile::kThreads) {
      const int row = i / vectors, offset = i % vectors * vector;
      const int64_t column = first_row + from + row;
      if (column >= shape.num_out || col + offset >= shape.out_width) continue;
      const int64_t m = args.output_row(column);
      if (m < 0) continue;
      store_outputs(args, m, first_col + offset, load_vector<vector>(sums + row * Tile::kStrideSums + offset));
    }
  }
}

constexpr int kTapBatch = 4;  // taps whose loads a thread has in flight

// The same without a matrix product, for groups of few channels. A thread owns kVector neighbouring output channels of one
// row; kVector > 1 is for the depthwise convolution, where they see as many neighbouring input channels.
template <class T, int kVector>
__global__ void __launch_bounds__(kThreads) narrow_conv_kernel(ConvArgs<T> args) {
  using Sum = Accumulator<T>;
  const ConvShape& shape = args.shape;
  const int64_t m = blockIdx.x * static_cast<int64_t>(blockDim.y) + threadIdx.y;
  if (m >= shape.num_out) return;
  const int64_t row = args.output_row(m);
  if (row < 0) return;
  for (int64_t channel = threadIdx.x * kVector; channel < shape.out_channels; channel += blockDim.x * kVector) {
    const T* feats = args.feats + channel / shape.out_width * shape.in_width;
    Vector<Sum, kVector> sums = {};
    for (int64_t first = 0; first < shape.volume; first += kTapBatch) {
      int32_t rows[kTapBatch];
#pragma unroll
      for (int i = 0; i < kTapBatch; ++i) {
        rows[i] = first + i < shape.volume ? args.neighbors[(first + i) * shape.num_out + m] : -1;
      }
      for (int64_t c = 0; c < shape.in_width; ++c) {
        Vector<T, kVector> values[kTapBatch];
#pragma unroll
        for (int i = 0; i < kTapBatch; ++i) {
          if (shape.is_input_row(rows[i])) values[i] = load_vector<kVector>(feats + rows[i] * shape.in_channels + c);
        }
#pragma unroll
        for (int i = 0; i < kTapBatch; ++i) {
          if (!shape.is_input_row(rows[i])) continue;
          const auto weight = load_vector<kVector>(args.weight + ((first + i) * shape.in_width + c) * shape.out_channels + channel);
#pragma unroll
          for (int v = 0; v < kVector; ++v) sums.values[v] += static_cast<Sum>(values[i].values[v]) * static_cast<Sum>(weight.values[v]);
        }
      }
    }
    store_outputs(args, row, channel, sums);
  }
}

}  // namespace pcperc
