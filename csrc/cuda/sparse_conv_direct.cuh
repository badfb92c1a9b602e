// SPDX-License-Identifier: Apache-2.0
#pragma once
// The forward kernel for few channels: the weights of all taps lie in shared memory, and each warp loads the features of its
// rows straight into the registers from which tensor cores take them. Nothing waits for the rest of the block.
//
// A row of features is read in chunks, four lanes side by side, so a lane has neighbouring channels where a product wants
// distant ones. Which channel a product calls which does not matter as long as the weights follow: `depth_of` says where
// they go.
#include <cstring>

#include "cuda/neighbor_rows.cuh"
#include "cuda/sparse_conv_output.cuh"

namespace pcperc {

// Where the input rows of 16 output rows start under each tap.
using PieceStarts = uint32_t[kTapChunk][kPieceRows];

// kRowBytes of each row of features hold the input channels of a group, or more than those; kCols its output channels.
template <class T, int kRowBytesOf, int kColsOf, bool kTransposedOf>
struct DirectTile {
  using Value = T;
  static constexpr bool kTransposed = kTransposedOf;
  static constexpr int kRowBytes = kRowBytesOf, kCols = kColsOf, kThreads = 512, kWarps = kThreads / 32;
  static constexpr int kDepth = kRowBytes / sizeof(T), kChunk = 16 / sizeof(T);
  static constexpr int kSteps = kRowBytes / 32;                     // products of 16 rows and 8 columns
  static constexpr int kLaneBytes = kRowBytes < 64 ? 8 : 16;        // of one load
  static constexpr int kLoads = kRowBytes / 4 / kLaneBytes;         // of a lane and row
  static constexpr int kBatch = kRowBytes < 64 ? 4 : 2;             // taps whose rows a lane has in flight
  static constexpr int kStride = (kTransposed ? kDepth : kCols) + (kTransposed ? kMatrixPad<T> : kSinglePad<T>);
  static constexpr int kTapSize = (kTransposed ? kCols : kDepth) * kStride;
  static constexpr int kTapBytes = kTapSize * static_cast<int>(sizeof(T));
  // Two blocks to a multiprocessor where their registers leave room.
  static constexpr int kBlocks = kCols <= 32 && kRowBytes <= 64 ? 2 : 1;

  static int64_t bytes(int64_t taps) { return taps * kTapBytes + kWarps * static_cast<int64_t>(sizeof(PieceStarts)); }
};

// The depth at which products meet an input channel.
template <class Tile>
__device__ constexpr int depth_of(int channel) {
  constexpr int values = 4 / sizeof(typename Tile::Value), lane_words = Tile::kLaneBytes / 4;
  const int word = channel / values, load = word / (4 * lane_words), lane = word / lane_words % 4;
  const int mine = load * lane_words + word % lane_words;  // word of the lane: two of them to a step
  return (mine / 2 * 8 + mine % 2 * 4 + lane) * values + channel % values;
}

// Copy the weights of a group to shared memory, in the order of the products; zeros where there is no channel.
template <class Tile>
__device__ void load_weights(typename Tile::Value* to, const ConvArgs<typename Tile::Value>& args, int64_t group) {
  using T = typename Tile::Value;
  const ConvShape& shape = args.shape;
  constexpr int rows = Tile::kTransposed ? Tile::kCols : Tile::kDepth;
  constexpr int chunks = (Tile::kTransposed ? Tile::kDepth : Tile::kCols) / Tile::kChunk;
  const int depth = static_cast<int>(shape.in_width), cols = static_cast<int>(shape.out_width);
  const int rows_left = Tile::kTransposed ? cols : depth, values_left = Tile::kTransposed ? depth : cols;
  const int64_t row_size = Tile::kTransposed ? shape.in_width : shape.out_channels, tap_size = shape.in_width * shape.out_channels;
  const T* const from = args.weight + group * shape.out_width * (Tile::kTransposed ? shape.in_width : 1);
  const int count = static_cast<int>(shape.volume) * rows * chunks;
#pragma unroll 4
  for (int i = threadIdx.x; i < count; i += Tile::kThreads) {
    const int tap = i / (rows * chunks), row = i / chunks % rows, first = i % chunks * Tile::kChunk;
    uint4 bits = {};
    if (row < rows_left && first < values_left) bits = __ldg(reinterpret_cast<const uint4*>(from + tap * tap_size + row * row_size + first));
    T* const tap_to = to + tap * Tile::kTapSize;
    if constexpr (Tile::kTransposed) {
      Vector<T, Tile::kChunk> chunk;
      memcpy(&chunk, &bits, sizeof(chunk));
#pragma unroll
      for (int v = 0; v < Tile::kChunk; ++v) tap_to[row * Tile::kStride + depth_of<Tile>(first + v)] = chunk.values[v];
    } else {
      *reinterpret_cast<uint4*>(tap_to + depth_of<Tile>(row) * Tile::kStride + first) = bits;
    }
  }
}

// List the neighbours of 16 rows for one warp; the word of the taps that have any. All reads are begun before the first is
// waited for.
__device__ __forceinline__ uint32_t load_piece_neighbors(PieceStarts& starts, const int32_t* neighbors, const ConvShape& shape,
                                                         uint32_t row_size, int64_t first_row) {
  const int lane = threadIdx.x % 32, row = lane % kPieceRows, odd = lane / kPieceRows;  // taps 2 i + odd
  const uint32_t rows_in = shape.rows_in_tables();
  const int taps_left = first_row + row < shape.num_out ? static_cast<int>(shape.volume) - odd : 0;
  const int32_t* from = neighbors + odd * shape.num_out + first_row + row;
  uint32_t found[kTapChunk / 2], taps = 0;
#pragma unroll
  for (int i = 0; i < kTapChunk / 2; ++i, from += 2 * shape.num_out) found[i] = 2 * i < taps_left ? *from : kAbsent;
#pragma unroll
  for (int i = 0; i < kTapChunk / 2; ++i) {
    const bool is_present = found[i] < rows_in;
    starts[2 * i + odd][row] = is_present ? found[i] * row_size : kAbsent;
    if (is_present) taps |= 1u << (2 * i);
  }
  __syncwarp();
  return __reduce_or_sync(0xffffffff, taps << odd);
}

// A lane's words of one row of features, of which `bytes_left` from its first on are there.
template <class Tile>
struct LaneWords {
  uint32_t loads[Tile::kLoads][Tile::kLaneBytes / 4];

  __device__ __forceinline__ void load(const unsigned char* feats, uint32_t start, int bytes_left) {
    const unsigned char* from = feats + uint64_t{start} * 16;
#pragma unroll
    for (int i = 0; i < Tile::kLoads; ++i) {
      constexpr int step = 4 * Tile::kLaneBytes;
      load_or_zero(loads[i], from + i * step, start != kAbsent && i * step < bytes_left);
    }
  }
  __device__ __forceinline__ uint32_t word(int i) const { return loads[i * 4 / Tile::kLaneBytes][i % (Tile::kLaneBytes / 4)]; }
};

// As convolve_kernel, for groups of at most kDepth and kCols channels and at most kTapChunk taps. Blocks (x, y) share the
// pieces of 16 rows of group y among their warps; a warp adds its taps in ascending order.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks) direct_convolve_kernel(ConvArgs<typename Tile::Value> args) {
  using T = typename Tile::Value;
  using Right = RightMatrix<T, Tile::kStride, Tile::kTransposed>;
  extern __shared__ __align__(128) unsigned char memory[];
  const ConvShape& shape = args.shape;
  T* const weights = reinterpret_cast<T*>(memory);
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  PieceStarts& starts = reinterpret_cast<PieceStarts*>(memory + shape.volume * Tile::kTapBytes)[warp];
  const int64_t group = blockIdx.y, row_step = int64_t{gridDim.x} * Tile::kWarps * kPieceRows;
  int64_t first_row = (int64_t{blockIdx.x} * Tile::kWarps + warp) * kPieceRows;
  const auto list_neighbors = [&] { return load_piece_neighbors(starts, args.neighbors, shape, args.row_copies(), first_row); };
  uint32_t taps = list_neighbors();  // beside the weights; none behind the last row
  load_weights<Tile>(weights, args, group);
  __syncthreads();
  const T* const right = weights + Right::lane_offset();
  const auto* feats = reinterpret_cast<const unsigned char*>(args.feats + group * shape.in_width) + t * Tile::kLaneBytes;
  int bytes_left = static_cast<int>(shape.in_width * sizeof(T)) - t * Tile::kLaneBytes;
  hold(feats), hold(bytes_left);
  while (first_row < shape.num_out) {
    float sums[Tile::kCols / 8][4] = {};
    while (taps != 0) {
      int tap[Tile::kBatch];
      LaneWords<Tile> low[Tile::kBatch], high[Tile::kBatch];  // rows g and g + 8
#pragma unroll
      for (int i = 0; i < Tile::kBatch; ++i, taps &= taps - 1) {
        tap[i] = __ffs(taps) - 1;
        const uint32_t* const mine = starts[max(tap[i], 0)] + g;
        low[i].load(feats, tap[i] < 0 ? kAbsent : mine[0], bytes_left);
        high[i].load(feats, tap[i] < 0 ? kAbsent : mine[8], bytes_left);
      }
#pragma unroll
      for (int i = 0; i < Tile::kBatch; ++i) {
        if (tap[i] < 0) break;
        const T* const b = right + tap[i] * Tile::kTapSize;
#pragma unroll
        for (int step = 0; step < Tile::kSteps; ++step) {
          uint32_t a[4] = {low[i].word(2 * step), high[i].word(2 * step), low[i].word(2 * step + 1), high[i].word(2 * step + 1)};
          if constexpr (sizeof(T) == 4) {
#pragma unroll
            for (uint32_t& value : a) value = round_to_tf32(__uint_as_float(value));
          }
#pragma unroll
          for (int j = 0; j < Tile::kCols / 8; j += 2) {
            uint32_t first[2], second[2];
            Right::load(first, second, b + Right::offset(step * 2 * Tile::kChunk, 8 * j));
            multiply_fragments<T>(sums[j], a, first);
            multiply_fragments<T>(sums[j + 1], a, second);
          }
        }
      }
    }
    store_piece(args, sums, first_row, group);
    first_row += row_step;
    __syncwarp();  // the list is free for the next rows
    taps = list_neighbors();
  }
}

}  // namespace pcperc
