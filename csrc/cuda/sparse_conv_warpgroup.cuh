// SPDX-License-Identifier: Apache-2.0
#pragma once
// The forward kernel for Hopper (sm_90a) and half precision: as convolve_kernel, with products of whole warpgroups, none left
// out under a tap that any row of the tile has. Where the tiles are too few for the GPU, the blocks of a cluster share the
// steps of one and add their sums in the order of the blocks.
#include "cuda/neighbor_rows.cuh"
#include "cuda/sparse_conv_output.cuh"
#include "cuda/warpgroup.cuh"

namespace pcperc {

// kRows / 64 warpgroups, each 64 rows x kCols; a step is kDepth channels deep. Both matrices lie in swizzled rows of 128 bytes,
// which 48 channels do not fill.
template <class T, int kRowsOf, int kColsOf, int kStagesOf, bool kTransposedBOf, int kDepthOf = 64>
struct WarpgroupTile {
  using Value = T;
  static constexpr bool kTransposedB = kTransposedBOf;
  static constexpr int kRows = kRowsOf, kCols = kColsOf, kStages = kStagesOf, kThreads = 2 * kRows;
  static constexpr int kChunk = 8, kDepth = kDepthOf, kPieces = kCols / 8;
  static constexpr int kBlocksB = (kCols + 63) / 64;  // of 64 columns
  static constexpr int kBytesA = kRows * 128, kBytesB = kBlocksB * 64 * 128, kStageBytes = kBytesA + kBytesB;
  static constexpr int kStrideSums = kCols + 8;
  static constexpr int kPipelineBytes = kStages * kStageBytes;
  // All sums fit where the stages were, or those of a warpgroup at a time.
  static constexpr bool kCanSplit = kRows * kStrideSums * 4 <= kPipelineBytes;
  static constexpr int kStoreRows = kCanSplit ? kRows : 64;
  static constexpr int kBytes = kPipelineBytes + static_cast<int>(sizeof(NeighborChunk<kRows>));
  // Two blocks to a multiprocessor where their shared memory and sums leave room.
  static constexpr int kBlocks = kBytes <= 113 * 1024 && kCols <= 128 && kThreads <= 256 ? 2 : 1;
  static_assert(sizeof(T) == 2 && kRows % 64 == 0 && kCols % 32 == 0 && kDepth % 16 == 0 && kDepth <= 64, "whole swizzled matrices");
  float sums[kPieces][4] = {};

  __device__ static int first_row() { return threadIdx.x / 128 * 64; }

  // Begin the products of a stage, `offset` in units of 16 bytes behind the first; they are done behind the wait. Never in a
  // branch: ptxas would then wait after each.
  __device__ __forceinline__ void multiply(uint32_t first_a, uint32_t first_b, uint32_t offset) {
    begin_products();
#pragma unroll
    for (int k = 0; k < kDepth; k += 16) {
      WarpgroupProduct<T, kPieces, false, kTransposedB>::run(sums, describe_matrix(first_a + offset + k * 2 / 16),
                                                             describe_matrix(first_b + offset + k * (kTransposedB ? 2 : 128) / 16));
    }
    commit_products();
  }

  __device__ void store(float* to, int from) const {
    const int first = first_row() - from;
    if (first < 0 || first >= kStoreRows) return;
    const int lane = threadIdx.x % 32, row = first + threadIdx.x / 32 % 4 * 16 + lane / 4;
#pragma unroll
    for (int j = 0; j < kPieces; ++j) {
      const int col = 8 * j + lane % 4 * 2;
      *reinterpret_cast<float2*>(to + row * kStrideSums + col) = make_float2(sums[j][0], sums[j][1]);
      *reinterpret_cast<float2*>(to + (row + 8) * kStrideSums + col) = make_float2(sums[j][2], sums[j][3]);
    }
  }
};

// The copies of a step. Rows of 128 bytes in shared memory: A's; B's for 64 columns, then those for the next 64, or one for
// each column of B where the weights lie transposed.
template <class Tile>
struct WarpgroupCopies {
  using T = typename Tile::Value;
  using A = CopyPart<Tile::kRows, 8, Tile::kThreads>;
  using B = CopyPart<Tile::kTransposedB ? Tile::kCols : Tile::kDepth, 8, Tile::kThreads>;
  static constexpr int kBlocksB = Tile::kTransposedB ? 1 : Tile::kBlocksB;
  static_assert(A::kRowStep % 8 == 0 && Tile::kRows % A::kRowStep == 0, "a thread keeps its place in the swizzle");
  const unsigned char *feats, *weight;     // this thread's chunk of row 0, and of its first row of B under tap 0
  uint32_t row_bytes, tap_bytes, to;       // of weights; this thread's first place in a matrix
  int depth, rows_left, cols_left;         // from this thread's on: channels, none behind a step's; rows of B and their columns

  __device__ WarpgroupCopies(const ConvArgs<T>& args, const OutputTile& place) {
    const ConvShape& shape = args.shape;
    const int64_t first_col = place.group * shape.out_width + place.col;
    const int first = A::chunk() * Tile::kChunk, width = static_cast<int>(shape.in_width);
    const int cols = static_cast<int>(shape.out_width - place.col);
    row_bytes = static_cast<uint32_t>(Tile::kTransposedB ? shape.in_width : shape.out_channels) * 2;
    tap_bytes = static_cast<uint32_t>(shape.in_width * shape.out_channels) * 2;
    feats = reinterpret_cast<const unsigned char*>(args.feats + place.group * shape.in_width + first);
    weight = reinterpret_cast<const unsigned char*>(args.weight + first) +
             (Tile::kTransposedB ? (first_col + B::row()) * row_bytes : first_col * 2 + int64_t{B::row()} * row_bytes);
    to = A::row() * 128 + (A::chunk() ^ A::row() % 8) * 16;
    depth = first < Tile::kDepth ? width - first : 0;
    rows_left = (Tile::kTransposedB ? cols : width) - B::row();
    cols_left = cols - first;
    hold(feats), hold(weight), hold(row_bytes), hold(tap_bytes), hold(to), hold(depth), hold(rows_left), hold(cols_left);
  }

  __device__ __forceinline__ void run(uint32_t stage, const NeighborChunk<Tile::kRows>& chunk, int64_t first_tap, int tap, int channel) const {
    const unsigned char* from_a = feats + channel * 2;
    const unsigned char* from_b = weight + static_cast<uint64_t>(static_cast<uint32_t>(first_tap) + tap) * tap_bytes +
                                  static_cast<uint64_t>(static_cast<uint32_t>(channel)) * (Tile::kTransposedB ? 2 : row_bytes);
    hold(from_a), hold(from_b);
    gather_rows<A, 128>(stage + to, from_a, chunk.starts[tap] + A::row(), channel < depth, kAllPieces);
    const int rows = Tile::kTransposedB ? (channel < depth ? rows_left : 0) : rows_left - channel;
#pragma unroll
    for (int i = 0; i < B::kCopies; ++i, from_b += uint64_t{row_bytes} * B::kRowStep) {
      if (i * B::kRowStep + B::kRowStep > B::kRows && B::row() + i * B::kRowStep >= B::kRows) continue;
#pragma unroll
      for (int j = 0; j < kBlocksB; ++j) {
        if (!Tile::kTransposedB && j * 64 + 64 > Tile::kCols && j * 64 + B::chunk() * Tile::kChunk >= Tile::kCols) continue;
        copy_async(stage + to + Tile::kBytesA + j * Tile::kDepth * 128 + i * B::kRowStep * 128, from_b + j * 128,
                   i * B::kRowStep < rows && (Tile::kTransposedB || j * 64 < cols_left));
      }
    }
  }
};

// Store the sums of a tile, those of `splits` blocks of a cluster added first: block r has the rows from r / splits on.
template <class Tile>
__device__ __forceinline__ void store_tile(const Tile& tile, float* sums, const ConvArgs<typename Tile::Value>& args,
                                           const OutputTile& place, int splits, int rank) {
  for (int from = 0; from < Tile::kRows; from += Tile::kStoreRows) {
    if (from > 0) __syncthreads();
    tile.store(sums, from);
    if (splits > 1) {
      meet_cluster();
    } else {
      __syncthreads();
    }
    const int begin = Tile::kStoreRows / splits * rank, count = Tile::kStoreRows / splits * Tile::kPieces;
    for (int i = threadIdx.x; i < count; i += Tile::kThreads) {
      const int row = begin + i / Tile::kPieces, offset = i % Tile::kPieces * 8;
      const int64_t column = place.row + from + row, col = place.col + offset;
      if (column >= args.shape.num_out || col >= args.shape.out_width) continue;
      const int64_t m = args.output_row(column);
      if (m < 0) continue;
      float* const mine = sums + row * Tile::kStrideSums + offset;
      auto values = load_vector<8>(mine);
      if (splits > 1) {
        values = {};
        for (int block = 0; block < splits; ++block) {
#pragma unroll
          for (int v = 0; v < 8; v += 4) {
            const float4 four = load_from_block(shared_address(mine + v), block);
            values.values[v] += four.x, values.values[v + 1] += four.y, values.values[v + 2] += four.z, values.values[v + 3] += four.w;
          }
        }
      }
      const int64_t channel = place.group * args.shape.out_width + col;
      store_outputs(args, m * args.shape.out_channels + channel, channel, values);
    }
    if (splits > 1) meet_cluster();  // nobody's memory goes while another reads it
  }
}

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    warpgroup_convolve_kernel(ConvArgs<typename Tile::Value> args, int splits) {
  extern __shared__ __align__(1024) unsigned char stages[];  // as the swizzle repeats
  auto& chunk = *reinterpret_cast<NeighborChunk<Tile::kRows>*>(stages + Tile::kPipelineBytes);
  uint32_t first_stage = shared_address(stages);
  uint32_t first_a = describe_start(first_stage + Tile::first_row() * 128, 16);
  uint32_t first_b = describe_start(first_stage + Tile::kBytesA, Tile::kTransposedB ? 16 : Tile::kDepth * 128);
  hold(first_stage), hold(first_a), hold(first_b);
  const ConvShape& shape = args.shape;
  const int rank = blockIdx.x % splits;
  const OutputTile place(shape, blockIdx.x / splits, Tile::kRows, Tile::kCols);
  const WarpgroupCopies<Tile> copies(args, place);
  const int slices = static_cast<int>(ceil_div(shape.in_width, Tile::kDepth));
  constexpr int ahead = Tile::kStages - 2;  // a stage is refilled when the products of two steps before are done
  Tile tile;
  for (int64_t first_tap = 0; first_tap < shape.volume; first_tap += kTapChunk) {
    const uint32_t taps = load_neighbors<Tile::kThreads>(chunk, args.neighbors, shape, args.row_copies(), place.row, first_tap);
    TapSteps copied{taps, slices};
    const int all = __popc(taps) * slices, begin = all * rank / splits, steps = all * (rank + 1) / splits - begin;
    copied.skip(begin);
    int filled = 0, multiplied = 0;  // the stages to come
    const auto fetch = [&](int step) {
      if (step < steps) {
        copies.run(first_stage + filled * Tile::kStageBytes, chunk, first_tap, copied.tap(), copied.slice * Tile::kDepth);
        copied.advance();
      }
      filled = filled + 1 == Tile::kStages ? 0 : filled + 1;
      commit_copies();
    };
    for (int step = 0; step < ahead; ++step) fetch(step);
    for (int step = 0; step < steps; ++step) {
      wait_copies<ahead - 1>();
      publish_to_products();
      __syncthreads();
      tile.multiply(first_a, first_b, multiplied * (Tile::kStageBytes / 16));
      multiplied = multiplied + 1 == Tile::kStages ? 0 : multiplied + 1;
      fetch(step + ahead);
      wait_products<1>();
    }
    wait_products<0>();
    wait_copies<0>();
    __syncthreads();
  }
  store_tile(tile, reinterpret_cast<float*>(stages), args, place, splits, rank);
}

}  // namespace pcperc
