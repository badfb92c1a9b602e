// SPDX-License-Identifier: Apache-2.0
#pragma once
// The forward kernels of the sparse convolution for any GPU, which are those of the input gradient too: a masked matrix
// product, and a plain sum where a group has too few channels to fill one. Every sum has one owner and one fixed order.
#include "cuda/neighbor_rows.cuh"
#include "cuda/sparse_conv_output.cuh"

namespace pcperc {

// The copies of a step, tap `tap` of the chunk and kDepth input channels from `channel` on. Here for rows that all start on 16
// bytes, at offsets of 32 bits; transposed weights are read as they lie.
template <class Tile, bool kAligned>
struct StepCopies {
  using T = typename Tile::Value;
  static constexpr bool kTransposedB = Tile::kTransposedB;
  static constexpr int kBytes = sizeof(T);
  using A = CopyPart<Tile::kRows, Tile::kChunks, Tile::kThreads>;
  using B = CopyPart<kTransposedB ? Tile::kCols : Tile::kDepth, kTransposedB ? Tile::kChunks : Tile::kCols / Tile::kChunk, Tile::kThreads>;
  static_assert(A::kRowStep % kPieceRows == 0 && A::kRows % A::kRowStep == 0 && B::kRows % B::kRowStep == 0, "whole pieces and rows");
  const unsigned char *feats, *weight;  // this thread's chunk of row 0, and of its first row under tap 0
  uint32_t row_bytes, tap_bytes;        // of weights
  int depth_a, depth_b, rows_left_b;    // channels from this thread's on; rows of B from this thread's on

  __device__ StepCopies(const ConvArgs<T>& args, const OutputTile& place) {
    const ConvShape& shape = args.shape;
    const int width = static_cast<int>(shape.in_width), cols_left = static_cast<int>(shape.out_width - place.col);
    const int chunk_b = B::chunk() * Tile::kChunk;
    const int64_t first_col = place.group * shape.out_width + place.col;
    row_bytes = static_cast<uint32_t>(kTransposedB ? shape.in_width : shape.out_channels) * kBytes;
    tap_bytes = static_cast<uint32_t>(shape.in_width * shape.out_channels) * kBytes;
    feats = reinterpret_cast<const unsigned char*>(args.feats + place.group * shape.in_width + A::chunk() * Tile::kChunk);
    weight = reinterpret_cast<const unsigned char*>(args.weight) +
             (kTransposedB ? (first_col + B::row()) * row_bytes + chunk_b * kBytes
                           : int64_t{B::row()} * row_bytes + (first_col + chunk_b) * kBytes);
    depth_a = width - A::chunk() * Tile::kChunk;
    depth_b = kTransposedB ? width - chunk_b : chunk_b < cols_left ? width - B::row() : 0;
    rows_left_b = cols_left - B::row();
    hold(feats), hold(weight), hold(row_bytes), hold(tap_bytes), hold(depth_a), hold(depth_b), hold(rows_left_b);
  }

  __device__ __forceinline__ void run(T* a, T* b, const NeighborChunk<Tile::kRows>& chunk, int64_t first_tap, int tap, int channel) const {
    constexpr int stride_a = Tile::kStrideA * kBytes, stride_b = Tile::kStrideB * kBytes;
    const unsigned char* from_a = feats + channel * kBytes;
    const unsigned char* from_b = weight + static_cast<uint64_t>(static_cast<uint32_t>(first_tap) + tap) * tap_bytes +
                                  static_cast<uint64_t>(static_cast<uint32_t>(channel)) * (kTransposedB ? kBytes : row_bytes);
    hold(from_a), hold(from_b);
    gather_rows<A, stride_a>(shared_address(a) + A::row() * stride_a + A::chunk() * 16, from_a, chunk.starts[tap] + A::row(),
                             channel < depth_a, chunk.pieces[tap] >> (A::row() / kPieceRows));
    copy_rows<B, stride_b>(shared_address(b) + B::row() * stride_b + B::chunk() * 16, from_b, row_bytes,
                           kTransposedB ? (channel < depth_b ? rows_left_b : 0) : depth_b - channel);
  }
};

// For rows that start anywhere, value by value.
template <class Tile>
struct StepCopies<Tile, false> {
  using T = typename Tile::Value;
  const ConvArgs<T>& args;
  const OutputTile& place;

  __device__ StepCopies(const ConvArgs<T>& args_of, const OutputTile& place_of) : args(args_of), place(place_of) {}

  __device__ void run(T* a, T* b, const NeighborChunk<Tile::kRows>& chunk, int64_t first_tap, int tap, int channel) const {
    const ConvShape& shape = args.shape;
    const T* feats = args.feats + place.group * shape.in_width + channel;
    load_rows<Tile, false, Tile::kRows, Tile::kDepth, Tile::kStrideA>(
        a, shape.in_width - channel, chunk.pieces[tap], feats, [&](int row) -> const T* {
          const uint32_t n = chunk.starts[tap][row];
          return n != kAbsent ? feats + n * shape.in_channels : nullptr;
        });
    const T* weight = args.weight + ((first_tap + tap) * shape.in_width + channel) * shape.out_channels +
                      place.group * shape.out_width + place.col;
    load_rows<Tile, false, Tile::kDepth, Tile::kCols, Tile::kStrideB>(
        b, shape.out_width - place.col, kAllPieces, args.weight, [&](int row) -> const T* {
          return channel + row < shape.in_width ? weight + row * shape.out_channels : nullptr;
        });
  }
};

template <class Tile>
constexpr int kConvolveBytes = Tile::kBytes + static_cast<int>(sizeof(NeighborChunk<Tile::kRows>));

// out[row_order[m]] = act(bias + residual + sum over taps and input channels). A block owns kRows columns of the table and
// kCols output channels of one group; its steps are the taps under which any of its rows has a neighbour, in ascending order,
// times the slices of kDepth input channels. Only pieces of 16 rows that have a neighbour are multiplied, so that rows ordered
// by their taps save work.
template <class Tile, bool kAligned>
__global__ void __launch_bounds__(Tile::kThreads) convolve_kernel(ConvArgs<typename Tile::Value> args) {
  using T = typename Tile::Value;
  using Sum = typename Tile::Sum;
  extern __shared__ __align__(128) unsigned char memory[];
  auto& chunk = *reinterpret_cast<NeighborChunk<Tile::kRows>*>(memory + Tile::kBytes);
  const ConvShape& shape = args.shape;
  const OutputTile place(shape, blockIdx.x, Tile::kRows, Tile::kCols);
  const StepCopies<Tile, kAligned> copies(args, place);
  const int slices = static_cast<int>(ceil_div(shape.in_width, Tile::kDepth));
  Tile tile;
  for (int64_t first_tap = 0; first_tap < shape.volume; first_tap += kTapChunk) {
    const uint32_t taps = load_neighbors<Tile::kThreads>(chunk, args.neighbors, shape, kAligned ? args.row_copies() : 1, place.row, first_tap);
    TapSteps copied{taps, slices}, multiplied{taps, slices};
    const auto load = [&](T* a, T* b) {
      copies.run(a, b, chunk, first_tap, copied.tap(), copied.slice * Tile::kDepth);
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
      const int64_t column = place.row + from + row, col = place.col + offset;
      if (column >= shape.num_out || col >= shape.out_width) continue;
      const int64_t m = args.output_row(column);
      if (m < 0) continue;
      const int64_t channel = place.group * shape.out_width + col;
      store_outputs(args, m * shape.out_channels + channel, channel, load_vector<vector>(sums + row * Tile::kStrideSums + offset));
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
    store_outputs(args, row * shape.out_channels + channel, channel, sums);
  }
}

}  // namespace pcperc
