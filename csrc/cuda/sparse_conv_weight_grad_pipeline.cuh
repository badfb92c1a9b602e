// SPDX-License-Identifier: Apache-2.0
#pragma once
// How a team of the weight gradient feeds its tile: the rows that pairs name are copied into a ring of shared-memory stages,
// while the stages before are multiplied.
#include "cuda/sparse_conv_weight_grad_tiles.cuh"

namespace pcperc {

template <class T>
struct WeightGradArgs {
  const T *feats, *grad;
  const int2* pairs;                // [input row, output row]
  const int32_t* starts;            // (K + 1,) of the taps in them
  Accumulator<T>* partial;          // (shares + K - 1, Cin / groups, Cout)
  int volume, shares, in_channels, out_channels, in_width, out_width;
};

// The part of the weights that a block sums: rows and columns of a group from `row` and `col` on.
template <class Tile>
struct WeightPiece {
  int row, col, group, share;

  __device__ WeightPiece(int in_width, int out_width, int tiles) {
    const int col_tiles = (out_width + Tile::kCols - 1) / Tile::kCols, row_tiles = (in_width + Tile::kRows - 1) / Tile::kRows;
    int tile = blockIdx.x % tiles;
    share = blockIdx.x / tiles;
    col = tile % col_tiles * Tile::kCols, tile /= col_tiles;
    row = tile % row_tiles * Tile::kRows, group = tile / row_tiles;
  }
};

// 16 bytes of row `row` from a chunk of row 0: one instruction, where the compiler would multiply 64-bit numbers.
__device__ __forceinline__ const void* chunk_of_row(const void* of_row_0, int row, int row_bytes) {
  const void* chunk;
  asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(chunk) : "r"(row), "r"(row_bytes), "l"(of_row_0));
  return chunk;
}

// What a thread copies of each stage: a chunk of 16 bytes, always the same, of every kPairStep-th pair of A or of B.
template <class Tile, int kWidth, bool kAligned>
struct ChunkCopies {
  using T = typename Tile::Value;
  static constexpr int kChunk = 16 / sizeof(T), kChunks = kWidth / kChunk, kPairStep = Tile::kTeamThreads / kChunks;
  static constexpr int kCount = Tile::kDepth / kPairStep;
  static_assert(kPairStep * kChunks == Tile::kTeamThreads && kCount * kPairStep == Tile::kDepth, "whole chunks for all threads");
  const void* of_row_0;
  int row_bytes, valid;  // values of the chunk that there are: <= 0 for none, kChunk or more for all
  int left;              // pairs from this thread's first in the next stage on; 0 without values
  int rows[kCount];      // of the next stage

  __device__ static int chunk() { return threadIdx.x % kChunks; }
  __device__ static int first_pair() { return threadIdx.x % Tile::kTeamThreads / kChunks; }

  __device__ ChunkCopies(const T* operand, int channels, int group_start, int col, int width)
      : of_row_0(operand + group_start + col + chunk() * kChunk), row_bytes(channels * static_cast<int>(sizeof(T))),
        valid(width - col - chunk() * kChunk) {}

  __device__ __forceinline__ void start(int count) { left = valid > 0 ? count - first_pair() : 0; }

  // `place` is that of the first pair's chunk; its other ones lie kPairBytes a pair on.
  template <int kPairBytes>
  __device__ __forceinline__ void copy(unsigned char* place) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      unsigned char* to = place + i * kPairStep * kPairBytes;
      const void* from = chunk_of_row(of_row_0, rows[i], row_bytes);
      const bool present = i * kPairStep < left;
      if constexpr (kAligned) {
        copy_async(to, from, present);
      } else {
#pragma unroll
        for (int v = 0; v < kChunk; ++v) {
          static_cast<T*>(static_cast<void*>(to))[v] = present && v < valid ? static_cast<const T*>(from)[v] : T(0.0f);
        }
      }
    }
  }
};

// The copies of a team's stages of some pairs, each behind the stages of the block's other teams.
template <class Tile, bool kAligned>
struct StageCopies {
  using CopiesA = ChunkCopies<Tile, Tile::kRows, kAligned>;
  using CopiesB = ChunkCopies<Tile, Tile::kCols, kAligned>;
  static constexpr int kStride = Tile::kTeams * Tile::kDepth;
  static constexpr bool kSamePairs = CopiesA::kPairStep == CopiesB::kPairStep;  // then a thread looks up both rows of a pair
  CopiesA a;
  CopiesB b;
  int place_a, place_b;
  const int2 *next_a, *next_b;  // this thread's first pair of the next stage

  __device__ StageCopies(const WeightGradArgs<typename Tile::Value>& args, const WeightPiece<Tile>& piece)
      : a(args.feats, args.in_channels, piece.group * args.in_width, piece.row, args.in_width),
        b(args.grad, args.out_channels, piece.group * args.out_width, piece.col, args.out_width),
        place_a(Tile::place_in_a(CopiesA::first_pair(), CopiesA::chunk())),
        place_b(Tile::place_in_b(CopiesB::first_pair(), CopiesB::chunk())) {}

  __device__ __forceinline__ void start(const int2* pairs, int count) {
    a.start(count), b.start(count);
    next_a = pairs + CopiesA::first_pair();
    if constexpr (!kSamePairs) next_b = pairs + CopiesB::first_pair();
    look_up();
  }

  // Ahead of their use, and behind the last pair in vain: the list has room for that.
  __device__ __forceinline__ void look_up() {
#pragma unroll
    for (int i = 0; i < CopiesA::kCount; ++i) {
      const int2 pair = __ldg(next_a + i * CopiesA::kPairStep);
      a.rows[i] = pair.x;
      if constexpr (kSamePairs) b.rows[i] = pair.y;
    }
    if constexpr (!kSamePairs) {
#pragma unroll
      for (int i = 0; i < CopiesB::kCount; ++i) b.rows[i] = __ldg(&next_b[i * CopiesB::kPairStep].y);
    }
  }

  __device__ __forceinline__ void copy(unsigned char* stage) {
    a.template copy<Tile::kPairBytesA>(stage + place_a);
    b.template copy<Tile::kPairBytesB>(stage + place_b);
    a.left -= kStride, b.left -= kStride, next_a += kStride;
    if constexpr (!kSamePairs) next_b += kStride;
    look_up();
  }
};

template <class Tile>
__device__ __forceinline__ void sync_team() {
  if constexpr (Tile::kTeamThreads == 32) {
    __syncwarp();
  } else {
    static_assert(Tile::kTeams == 1, "a barrier of the block is the team's");
    __syncthreads();
  }
}

// tile += the products of `count` pairs, those of the block's other teams left out. The copies of the stages ahead run while a
// stage is multiplied; the one filled next is one that the whole team had finished with at the last barrier.
template <class Tile, class Copies>
__device__ __forceinline__ void multiply_pairs(Tile& tile, Copies& copies, unsigned char* stages, const int2* pairs, int count) {
  constexpr int stride = Copies::kStride, ring_bytes = Tile::kStages * Tile::kStageBytes;
  const int first = Tile::kTeams == 1 ? 0 : static_cast<int>(threadIdx.x) / Tile::kTeamThreads * Tile::kDepth;
  int to_multiply = count - first, to_copy = to_multiply, multiplied = 0, copied = 0;  // pairs, and the stages' places
  const auto fetch = [&] {
    if (to_copy > 0) copies.copy(stages + copied);
    commit_copies();
    to_copy -= stride;
    copied = copied + Tile::kStageBytes == ring_bytes ? 0 : copied + Tile::kStageBytes;
  };
  copies.start(pairs + first, to_copy);
#pragma unroll
  for (int i = 0; i < Tile::kAhead; ++i) fetch();
  for (; to_multiply > 0; to_multiply -= stride) {
    wait_copies<Tile::kAhead - 1>();
    if constexpr (Tile::kAsync) Tile::publish();
    sync_team<Tile>();
    if constexpr (!Tile::kAsync) fetch();
    tile.multiply(stages + multiplied);
    if constexpr (Tile::kAsync) {
      fetch();
      Tile::template wait<1>();
    }
    multiplied = multiplied + Tile::kStageBytes == ring_bytes ? 0 : multiplied + Tile::kStageBytes;
  }
  if constexpr (Tile::kAsync) Tile::template wait<0>();
}

}  // namespace pcperc
