// SPDX-License-Identifier: Apache-2.0
#pragma once
// The weight gradient over packed pairs: grad_weight[k] = sum over the pairs (n, m) of tap k of feats[n]^T grad[m].
//
// All pairs, tap behind tap, are cut into equal shares. A block sums one share into one kRows x kCols piece of the weights, and
// where the share goes on into the next tap, into the next tap's. No block waits for another and none uses atomics: share s
// leaves its sums of tap k in slot s + k, which only they can have as a share begins where the one before it ended, and the
// slots of a tap are added in order.
#include "cuda/sparse_conv_weight_grad_pipeline.cuh"

namespace pcperc {

// Tensor cores cut the bits off that a sum has no room for, so that a long one would come out too small: the sums of so many
// pairs are added outside of them.
constexpr int kSegmentPairs = 1 << 15;

constexpr int kLeastShare = 256;  // pairs: below, starting a block costs more than it saves

// The pairs of a share; whole steps of `step` pairs.
__device__ __forceinline__ int share_length(int pairs, int shares, int step) {
  const int length = max((pairs + shares - 1) / shares, kLeastShare);
  return (length + step - 1) / step * step;
}

// The matrices of sums that the teams leave for each other, over the stages.
template <class Tile>
constexpr int kStrideSums = Tile::kCols + 8;
template <class Tile>
constexpr int kSumsBytes = Tile::kTeams * Tile::kRows * kStrideSums<Tile> * static_cast<int>(sizeof(typename Tile::Sum));
template <class Tile>
constexpr int kStagesBytes = Tile::kTeams * Tile::kStages * Tile::kStageBytes;
template <class Tile>
constexpr int kSharedBytes = kStagesBytes<Tile> > kSumsBytes<Tile> ? kStagesBytes<Tile> : kSumsBytes<Tile>;

// Add up the sums of the block's teams, in order, into the block's piece of a slot: set it, or add to it.
template <class Tile, bool kAligned, class Args>
__device__ __forceinline__ void store_sums(const Tile& tile, unsigned char* memory, const Args& args, const WeightPiece<Tile>& piece,
                                           int slot, bool is_first) {
  using Sum = typename Tile::Sum;
  constexpr int stride = kStrideSums<Tile>, vector = kAligned ? 16 / sizeof(Sum) : 1, row_vectors = Tile::kCols / vector;
  Sum* sums = reinterpret_cast<Sum*>(memory);
  __syncthreads();  // all teams are done with their stages
  tile.store(sums + threadIdx.x / Tile::kTeamThreads * (Tile::kRows * stride), stride);
  __syncthreads();
  const int rows = min(args.in_width - piece.row, Tile::kRows), cols = min(args.out_width - piece.col, Tile::kCols);
  const int64_t first = static_cast<int64_t>(slot) * args.in_width + piece.row;
  Sum* to = args.partial + first * args.out_channels + piece.group * args.out_width + piece.col;
  for (int i = threadIdx.x; i < rows * row_vectors; i += Tile::kThreads) {
    const int row = i / row_vectors, col = i % row_vectors * vector;
    if (col >= cols) continue;
    auto total = load_vector<vector>(sums + row * stride + col);
#pragma unroll
    for (int team = 1; team < Tile::kTeams; ++team) {
      const auto sum = load_vector<vector>(sums + (team * Tile::kRows + row) * stride + col);
#pragma unroll
      for (int v = 0; v < vector; ++v) total.values[v] += sum.values[v];
    }
    auto* at = reinterpret_cast<Vector<Sum, vector>*>(to + static_cast<int64_t>(row) * args.out_channels + col);
    if (!is_first) {
      const auto before = *at;
#pragma unroll
      for (int v = 0; v < vector; ++v) total.values[v] = before.values[v] + total.values[v];
    }
    *at = total;
  }
  __syncthreads();  // the stages are free again
}

// A block's share of the pairs and its piece of the weights; `tiles` pieces make up all weights of a tap.
template <class Tile, bool kAligned>
__device__ __forceinline__ void sum_share(const WeightGradArgs<typename Tile::Value>& args, int tiles, unsigned char* memory) {
  const int total = args.starts[args.volume];
  const WeightPiece<Tile> piece(args.in_width, args.out_width, tiles);
  const int length = share_length(total, args.shares, Tile::kTeams * Tile::kDepth);
  int begin = piece.share * length;
  const int stop = min(begin + length, total);
  if (begin >= stop) return;
  int tap = 0;  // how many taps end at or before the share's begin
  for (int first = 0; first < args.volume; first += Tile::kThreads) {
    const int other = first + threadIdx.x;
    tap += __syncthreads_count(other < args.volume && args.starts[other + 1] <= begin);
  }
  StageCopies<Tile, kAligned> copies(args, piece);
  const int team = Tile::kTeams == 1 ? 0 : threadIdx.x / Tile::kTeamThreads;
  unsigned char* const stages = memory + team * (Tile::kStages * Tile::kStageBytes);
  for (bool is_first = true; begin < stop;) {
    const int tap_end = args.starts[tap + 1];
    const int end = min(min(tap_end, stop), begin + kSegmentPairs);
    if (end > begin) {
      Tile tile;
      multiply_pairs(tile, copies, stages, args.pairs + begin, end - begin);
      store_sums<Tile, kAligned>(tile, memory, args, piece, piece.share + tap, is_first);
    }
    is_first = end == tap_end;
    tap += is_first;
    begin = end;
  }
}

template <class Tile, bool kAligned>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    weight_grad_kernel(WeightGradArgs<typename Tile::Value> args, int tiles) {
  extern __shared__ __align__(128) unsigned char memory[];
  sum_share<Tile, kAligned>(args, tiles, memory);
}

// output[k] = the sum of the slots of tap k, added to what is there where `accumulates`. A thread owns kVector neighbouring
// weights and every blockDim.y-th slot, kSlotsAtOnce of them on their way at a time; the lanes' sums are added in order.
constexpr int kSlotsAtOnce = 8;

template <class Sum, int kVector>
__global__ void __launch_bounds__(kThreads)
    sum_slots_kernel(const Sum* partial, const int32_t* starts, int volume, int shares, int step, int64_t tap_size, bool accumulates,
                     Sum* output) {
  __shared__ Vector<Sum, kVector> lanes[kThreads];
  const int64_t vectors = tap_size / kVector, tap_blocks = ceil_div(vectors, blockDim.x);
  const int tap = static_cast<int>(blockIdx.x / tap_blocks);
  const int64_t vector = blockIdx.x % tap_blocks * blockDim.x + threadIdx.x;
  const int begin = starts[tap], end = starts[tap + 1], length = share_length(starts[volume], shares, step);
  const int first = begin / length, last = begin < end ? (end - 1) / length : first - 1;  // shares
  Vector<Sum, kVector> sum = {};
  if (vector < vectors) {
    const auto* from = reinterpret_cast<const Vector<Sum, kVector>*>(partial) + tap * vectors + vector;
    for (int share = first + threadIdx.y; share <= last; share += kSlotsAtOnce * blockDim.y) {
      Vector<Sum, kVector> values[kSlotsAtOnce];
#pragma unroll
      for (int i = 0; i < kSlotsAtOnce; ++i) {
        const int other = share + i * static_cast<int>(blockDim.y);
        values[i] = {};
        if (other <= last) values[i] = from[other * vectors];
      }
#pragma unroll
      for (int i = 0; i < kSlotsAtOnce; ++i) {
#pragma unroll
        for (int v = 0; v < kVector; ++v) sum.values[v] += values[i].values[v];
      }
    }
  }
  lanes[threadIdx.y * blockDim.x + threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || vector >= vectors) return;
  for (unsigned lane = 1; lane < blockDim.y; ++lane) {
#pragma unroll
    for (int v = 0; v < kVector; ++v) sum.values[v] += lanes[lane * blockDim.x + threadIdx.x].values[v];
  }
  auto* to = reinterpret_cast<Vector<Sum, kVector>*>(output) + tap * vectors + vector;
#pragma unroll
  for (int v = 0; v < kVector; ++v) to->values[v] = accumulates ? to->values[v] + sum.values[v] : sum.values[v];
}

}  // namespace pcperc
