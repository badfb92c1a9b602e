// SPDX-License-Identifier: Apache-2.0
#pragma once
// The forward kernel for the few input channels of a first layer in half precision: the depth of a product holds several taps.
// Each warp loads the features of its rows straight into registers, as direct_convolve_kernel does.
#include "cuda/matrix_tiles.cuh"
#include "cuda/sparse_conv_output.cuh"

namespace pcperc {

// kWidth: 4 or 8, the input channels of a group or more; kCols: its output channels or more; kVector: rows of exactly 4
// channels that start on 8 bytes.
template <class T, int kWidthOf, int kColsOf, bool kVectorOf>
struct PackedTile {
  using Value = T;
  static constexpr int kWidth = kWidthOf, kCols = kColsOf, kThreads = 256, kWarps = kThreads / 32;
  static constexpr bool kVector = kVectorOf;
  static constexpr int kDepth = 16, kTaps = kDepth / kWidth;  // of a product
  static constexpr int kStride = kCols + kSinglePad<T>;
  static constexpr int kBatch = 4;  // products whose rows a lane has in flight
  static_assert(sizeof(T) == 2 && (kWidth == 4 || (kWidth == 8 && !kVector)), "a lane has 4 channels of a tap");

  static __host__ __device__ int64_t steps(int64_t taps) { return (taps + kTaps - 1) / kTaps; }
  static int64_t bytes(int64_t taps) { return steps(taps) * kDepth * kStride * static_cast<int64_t>(sizeof(T)); }
};

// Four channels of one row, from `channel` on, as two words; those at and behind `channels_left` are 0.
template <class Tile>
__device__ __forceinline__ void load_four(uint32_t (&words)[2], const typename Tile::Value* row, int channels_left, bool present) {
  if constexpr (Tile::kVector) {
    load_or_zero(words, row, present);
  } else {
    const auto* bits = reinterpret_cast<const uint16_t*>(row);
    uint32_t values[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i] = present && i < channels_left ? __ldg(bits + i) : 0;
    words[0] = values[0] | values[1] << 16, words[1] = values[2] | values[3] << 16;
  }
}

// As convolve_kernel. Lane 4 g + t of a warp has rows g and g + 8 of 16, and of the taps of a product the one that its four
// values of depth 2 t, 2 t + 1, 2 t + 8, 2 t + 9 belong to. Blocks (x, y) share the rows of group y.
template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads) packed_convolve_kernel(ConvArgs<typename Tile::Value> args) {
  using T = typename Tile::Value;
  using Right = RightMatrix<T, Tile::kStride, false>;
  extern __shared__ __align__(128) unsigned char memory[];
  T* const weights = reinterpret_cast<T*>(memory);
  const ConvShape& shape = args.shape;
  const int64_t group = blockIdx.y;
  const int steps = static_cast<int>(Tile::steps(shape.volume)), width = static_cast<int>(shape.in_width);
  for (int i = threadIdx.x; i < steps * Tile::kDepth * Tile::kCols; i += Tile::kThreads) {
    const int col = i % Tile::kCols, row = i / Tile::kCols, depth = row % Tile::kDepth;
    const int four = depth % 8 / 2, place = 4 * four + depth / 8 * 2 + depth % 2;  // among the channels of the taps of a step
    const int tap = row / Tile::kDepth * Tile::kTaps + place / Tile::kWidth, channel = place % Tile::kWidth;
    const bool present = tap < shape.volume && channel < width && col < shape.out_width;
    const int64_t from = (int64_t{tap} * width + channel) * shape.out_channels + group * shape.out_width + col;
    weights[row * Tile::kStride + col] = present ? args.weight[from] : T(0.0f);
  }
  __syncthreads();
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const int my_tap = 4 * t / Tile::kWidth, channels_left = width - 4 * t % Tile::kWidth;
  const uint32_t rows_in = shape.rows_in_tables();
  const T* const right = weights + Right::lane_offset();
  const T* const feats = args.feats + group * shape.in_width + 4 * t % Tile::kWidth;
  for (int64_t first_row = (int64_t{blockIdx.x} * Tile::kWarps + warp) * kPieceRows; first_row < shape.num_out;
       first_row += int64_t{gridDim.x} * Tile::kWarps * kPieceRows) {
    float sums[Tile::kCols / 8][4] = {};
    for (int first = 0; first < steps; first += Tile::kBatch) {
      uint32_t found[Tile::kBatch][2], words[Tile::kBatch][2][2];
#pragma unroll
      for (int i = 0; i < Tile::kBatch; ++i) {
        const int64_t tap = (first + i) * Tile::kTaps + my_tap;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int64_t column = first_row + g + 8 * half;
          found[i][half] = tap < shape.volume && column < shape.num_out ? args.neighbors[tap * shape.num_out + column] : -1;
        }
      }
#pragma unroll
      for (int i = 0; i < Tile::kBatch; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          load_four<Tile>(words[i][half], feats + found[i][half] * shape.in_channels, channels_left, found[i][half] < rows_in);
        }
      }
#pragma unroll
      for (int i = 0; i < Tile::kBatch; ++i) {
        if (first + i >= steps || !__any_sync(0xffffffff, found[i][0] < rows_in || found[i][1] < rows_in)) continue;
        const uint32_t a[4] = {words[i][0][0], words[i][1][0], words[i][0][1], words[i][1][1]};
#pragma unroll
        for (int j = 0; j < Tile::kCols / 8; j += 2) {
          uint32_t left[2], next[2];
          Right::load(left, next, right + Right::offset((first + i) * Tile::kDepth, 8 * j));
          multiply_fragments<T>(sums[j], a, left);
          multiply_fragments<T>(sums[j + 1], a, next);
        }
      }
    }
    store_piece(args, sums, first_row, group);
  }
}

}  // namespace pcperc
