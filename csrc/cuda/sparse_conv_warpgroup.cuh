// SPDX-License-Identifier: Apache-2.0
#pragma once
// The forward kernel for Hopper (sm_90a) and half precision: as convolve_kernel, with products of whole warpgroups, none left
// out under a tap that any row of the tile has.
#include "cuda/sparse_conv_kernels.cuh"
#include "cuda/warpgroup.cuh"

namespace pcperc {

// kRows / 64 warpgroups, each 64 rows x kCols; a step is 64 channels deep.
template <class T, int kRowsOf, int kColsOf, int kStagesOf>
struct WarpgroupTile {
  using Value = T;
  using Sum = float;
  static constexpr int kRows = kRowsOf, kCols = kColsOf, kStages = kStagesOf, kThreads = 2 * kRows;
  static constexpr int kChunk = 8, kDepth = 64, kPieces = kCols / 8;
  static constexpr int kBytesA = kRows * 128, kBytesB = kDepth * kCols * 2;
  static constexpr int kStrideSums = kCols + 8, kStoreRows = 64;
  static constexpr int kPipelineBytes = kStages * (kBytesA + kBytesB), kSumsBytes = kStoreRows * kStrideSums * 4;
  static constexpr int kBytes = kPipelineBytes > kSumsBytes ? kPipelineBytes : kSumsBytes;
  static_assert(sizeof(T) == 2 && kRows % 64 == 0 && kCols % 64 == 0, "whole swizzled matrices");
  float sums[kPieces][4] = {};

  __device__ static int first_row() { return threadIdx.x / 128 * 64; }

  // Begin the products of one stage; they are done behind the wait. Never in a branch: ptxas would then wait after each.
  __device__ void multiply(const unsigned char* a, const unsigned char* b) {
    begin_products();
#pragma unroll
    for (int k = 0; k < kDepth; k += 16) {
      WarpgroupProduct<T, kPieces>::run(sums, describe_matrix(a + first_row() * 128 + k * 2, 16),
                                        describe_matrix(b + k * 128, kDepth * 128));
    }
    commit_products();
  }

  __device__ void store(float* to, int from) const {
    if (first_row() != from) return;
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 % 4 * 16 + lane / 4;
#pragma unroll
    for (int j = 0; j < kPieces; ++j) {
      const int col = 8 * j + lane % 4 * 2;
      *reinterpret_cast<float2*>(to + row * kStrideSums + col) = make_float2(sums[j][0], sums[j][1]);
      *reinterpret_cast<float2*>(to + (row + 8) * kStrideSums + col) = make_float2(sums[j][2], sums[j][3]);
    }
  }
};

template <class Tile>
constexpr int kWarpgroupBytes = 1024 + Tile::kBytes + static_cast<int>(sizeof(NeighborChunk<Tile::kRows>));

// Two blocks to a multiprocessor where their shared memory and sums leave room.
template <class Tile>
constexpr int kWarpgroupBlocks = kWarpgroupBytes<Tile> <= 113 * 1024 && Tile::kCols <= 128 ? 2 : 1;

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, kWarpgroupBlocks<Tile>) warpgroup_convolve_kernel(ConvArgs<typename Tile::Value> args) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || !defined(__CUDA_ARCH__)
  using T = typename Tile::Value;
  extern __shared__ __align__(128) unsigned char memory[];
  unsigned char* const stages = memory + (1024 - shared_address(memory) % 1024) % 1024;
  auto& chunk = *reinterpret_cast<NeighborChunk<Tile::kRows>*>(stages + Tile::kBytes);
  const ConvShape& shape = args.shape;
  const int64_t col_tiles = ceil_div(shape.out_width, Tile::kCols), tiles = shape.groups * col_tiles;
  const int64_t first_row = blockIdx.x / tiles * Tile::kRows, group = blockIdx.x % tiles / col_tiles;
  const int64_t col = blockIdx.x % col_tiles * Tile::kCols, first_col = group * shape.out_width + col;
  const T* feats = args.feats + group * shape.in_width;
  const int slices = static_cast<int>(ceil_div(shape.in_width, Tile::kDepth));
  constexpr int ahead = Tile::kStages - 2;  // a stage is refilled when the products of two steps before are done
  Tile tile;
  for (int64_t first_tap = 0; first_tap < shape.volume; first_tap += kTapChunk) {
    const uint32_t taps = load_neighbors<Tile::kThreads>(chunk, args.neighbors, shape, first_row, first_tap);
    TapSteps copied{taps, slices};
    const int steps = __popc(taps) * slices;
    const auto stage = [&](int step) { return stages + step % Tile::kStages * (Tile::kBytesA + Tile::kBytesB); };
    const auto fetch = [&](int step) {
      if (step < steps) {
        unsigned char *a = stage(step), *b = a + Tile::kBytesA;
        const int tap = copied.tap();
        const int64_t channel = copied.slice * Tile::kDepth;
        for (int i = threadIdx.x; i < Tile::kRows * 8; i += Tile::kThreads) {
          const int row = i / 8, place = i % 8;
          const int64_t n = chunk.rows[tap][row], c = channel + place * 8;
          const bool present = n >= 0 && c < shape.in_width;
          copy_async(a + row * 128 + (place ^ row % 8) * 16, present ? feats + n * shape.in_channels + c : feats, present);
        }
        const T* weight = args.weight + ((first_tap + tap) * shape.in_width + channel) * shape.out_channels + first_col;
        for (int i = threadIdx.x; i < Tile::kDepth * Tile::kPieces; i += Tile::kThreads) {
          const int row = i / Tile::kPieces, place = i % Tile::kPieces;
          const bool present = channel + row < shape.in_width && col + place * 8 < shape.out_width;
          copy_async(b + place / 8 * (Tile::kDepth * 128) + row * 128 + (place % 8 ^ row % 8) * 16,
                     present ? weight + row * shape.out_channels + place * 8 : args.weight, present);
        }
        copied.advance();
      }
      commit_copies();
    };
    for (int step = 0; step < ahead; ++step) fetch(step);
    for (int step = 0; step < steps; ++step) {
      wait_copies<ahead - 1>();
      publish_to_products();
      __syncthreads();
      tile.multiply(stage(step), stage(step) + Tile::kBytesA);
      fetch(step + ahead);
      wait_products<1>();
    }
    wait_products<0>();
    wait_copies<0>();
    __syncthreads();
  }
  float* sums = reinterpret_cast<float*>(stages);
  for (int from = 0; from < Tile::kRows; from += Tile::kStoreRows) {
    if (from > 0) __syncthreads();
    tile.store(sums, from);
    __syncthreads();
    for (int i = threadIdx.x; i < Tile::kStoreRows * Tile::kPieces; i += Tile::kThreads) {
      const int row = i / Tile::kPieces, offset = i % Tile::kPieces * 8;
      const int64_t column = first_row + from + row;
      if (column >= shape.num_out || col + offset >= shape.out_width) continue;
      const int64_t m = args.output_row(column);
      if (m < 0) continue;
      store_outputs(args, m, first_col + offset, load_vector<8>(sums + row * Tile::kStrideSums + offset));
    }
  }
#else
  __trap();
#endif
}

}  // namespace pcperc
