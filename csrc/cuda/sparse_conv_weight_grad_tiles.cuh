// SPDX-License-Identifier: Apache-2.0
#pragma once
// The products sums (kRows, kCols) += A^T @ B that a team of threads holds in registers, over stages of kDepth pairs in shared
// memory: A (kDepth, kRows) features of the input rows, B (kDepth, kCols) gradients of the output rows. A block is kTeams teams
// with stages of their own, between which the pairs are dealt out; a team of one warp never waits for another warp.
#include <type_traits>

#include "common/dispatch.h"
#include "cuda/sparse_conv_shape.cuh"

namespace pcperc {

// What all tiles tell: sizes, and rows of shared memory padded so that the reads of a warp meet no bank twice.
template <class T, int kRowsOf, int kColsOf, int kDepthOf, int kStagesOf, int kTeamThreadsOf, int kTeamsOf, int kBlocksOf>
struct PaddedTile {
  using Value = T;
  using Sum = Accumulator<T>;
  static constexpr int kRows = kRowsOf, kCols = kColsOf, kDepth = kDepthOf, kStages = kStagesOf;
  static constexpr int kTeamThreads = kTeamThreadsOf, kTeams = kTeamsOf, kThreads = kTeamThreads * kTeams;
  static constexpr int kBlocks = kBlocksOf;          // that a multiprocessor has room for
  static constexpr bool kAsync = false;              // multiply() ends with its products done
  static constexpr int kAhead = kStages - 1;         // stages that are filled while one is multiplied
  static constexpr int kStrideA = kRows + 8, kStrideB = kCols + 8;
  static constexpr int kPairBytesA = kStrideA * static_cast<int>(sizeof(T)), kPairBytesB = kStrideB * static_cast<int>(sizeof(T));
  static constexpr int kBytesA = kDepth * kPairBytesA, kStageBytes = kBytesA + kDepth * kPairBytesB;

  // The places in a stage of a 16-byte chunk of a pair: of A, and of B behind it.
  __device__ static int place_in_a(int pair, int chunk) { return pair * kPairBytesA + chunk * 16; }
  __device__ static int place_in_b(int pair, int chunk) { return kBytesA + pair * kPairBytesB + chunk * 16; }
};

// How many pairs one product of the tensor cores is deep: 16 of half precision, 8 of TF32.
template <class T>
constexpr int kProductDepth = 32 / sizeof(T);

// Tensor cores: __half, __nv_bfloat16, or float for TF32. Each of a team's kWarpRows x kWarpCols warps owns a part of the sums.
template <class T, int kRows, int kCols, int kProducts, int kStages, int kWarpRows, int kWarpCols, int kTeams, int kBlocks>
struct WarpWeightTile
    : PaddedTile<T, kRows, kCols, kProducts * kProductDepth<T>, kStages, 32 * kWarpRows * kWarpCols, kTeams, kBlocks> {
  using Base = PaddedTile<T, kRows, kCols, kProducts * kProductDepth<T>, kStages, 32 * kWarpRows * kWarpCols, kTeams, kBlocks>;
  static constexpr int kPiecesM = kRows / kWarpRows / 16, kPiecesN = kCols / kWarpCols / 8;
  static_assert(kPiecesM * kWarpRows * 16 == kRows && kPiecesN * kWarpCols * 8 == kCols && kPiecesN % 2 == 0, "whole pieces");
  float sums[kPiecesM][kPiecesN][4] = {};

  __device__ static int lane() { return threadIdx.x % 32; }
  __device__ static int first_row() { return threadIdx.x % Base::kTeamThreads / 32 / kWarpCols * (kRows / kWarpRows); }
  __device__ static int first_col() { return threadIdx.x / 32 % kWarpCols * (kCols / kWarpCols); }

  // The fragment of sums' rows [row, row + 16) and pairs [k, k + kProductDepth).
  __device__ static void load_left(uint32_t (&to)[4], const T* a, int row, int k) {
    if constexpr (sizeof(T) == 2) {
      load_matrices_transposed(to, a + (k + lane() / 16 * 8 + lane() % 8) * Base::kStrideA + row + lane() / 8 % 2 * 8);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        to[i] = round_to_tf32(a[(k + lane() % 4 + i / 2 * 4) * Base::kStrideA + row + lane() / 4 + i % 2 * 8]);
      }
    }
  }

  // The fragments of columns [col, col + 8) and [col + 8, col + 16).
  __device__ static void load_right(uint32_t (&first)[2], uint32_t (&second)[2], const T* b, int k, int col) {
    uint32_t both[4];
    if constexpr (sizeof(T) == 2) {
      load_matrices_transposed(both, b + (k + lane() % 16) * Base::kStrideB + col + lane() / 16 * 8);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        both[i] = round_to_tf32(b[(k + lane() % 4 + i % 2 * 4) * Base::kStrideB + col + lane() / 4 + i / 2 * 8]);
      }
    }
    first[0] = both[0], first[1] = both[1], second[0] = both[2], second[1] = both[3];
  }

  __device__ void multiply(const unsigned char* stage) {
    const T *a = reinterpret_cast<const T*>(stage), *b = reinterpret_cast<const T*>(stage + Base::kBytesA);
#pragma unroll
    for (int k = 0; k < Base::kDepth; k += kProductDepth<T>) {
      uint32_t right[kPiecesN][2];
#pragma unroll
      for (int j = 0; j < kPiecesN; j += 2) load_right(right[j], right[j + 1], b, k, first_col() + 8 * j);
#pragma unroll
      for (int i = 0; i < kPiecesM; ++i) {
        uint32_t left[4];
        load_left(left, a, first_row() + 16 * i, k);
#pragma unroll
        for (int j = 0; j < kPiecesN; ++j) multiply_fragments<T>(sums[i][j], left, right[j]);
      }
    }
  }

  // Store this thread's sums into a matrix of rows `stride` apart.
  __device__ void store(float* to, int stride) const {
#pragma unroll
    for (int i = 0; i < kPiecesM; ++i) {
#pragma unroll
      for (int j = 0; j < kPiecesN; ++j) {
        float* at = to + (first_row() + 16 * i + lane() / 4) * stride + first_col() + 8 * j + lane() % 4 * 2;
        *reinterpret_cast<float2*>(at) = make_float2(sums[i][j][0], sums[i][j][1]);
        *reinterpret_cast<float2*>(at + 8 * stride) = make_float2(sums[i][j][2], sums[i][j][3]);
      }
    }
  }
};

// Fused multiply-adds in float32 and float64: 16 x 16 threads, each 4 x 4 sums.
template <class T>
struct PlainWeightTile : PaddedTile<T, 64, 64, 16, 3, 256, 1, 2> {
  using Base = PaddedTile<T, 64, 64, 16, 3, 256, 1, 2>;
  T sums[4][4] = {};

  __device__ static int first_row() { return threadIdx.x / 16 * 4; }
  __device__ static int first_col() { return threadIdx.x % 16 * 4; }

  __device__ void multiply(const unsigned char* stage) {
    const T *a = reinterpret_cast<const T*>(stage) + first_row();
    const T *b = reinterpret_cast<const T*>(stage + Base::kBytesA) + first_col();
#pragma unroll
    for (int k = 0; k < Base::kDepth; ++k) {
      const auto left = load_vector<4>(a + k * Base::kStrideA), right = load_vector<4>(b + k * Base::kStrideB);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] += left.values[i] * right.values[j];
      }
    }
  }

  __device__ void store(T* to, int stride) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) to[(first_row() + i) * stride + first_col() + j] = sums[i][j];
    }
  }
};

}  // namespace pcperc
