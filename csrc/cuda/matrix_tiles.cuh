// SPDX-License-Identifier: Apache-2.0
#pragma once
// The matrix product that one block holds in registers: sums (kRows, kCols) += A (kRows, kDepth) @ B (kDepth, kCols), with A
// and B in shared memory. Tensor cores for half precision and TF32, plain fused multiply-adds for float32 and float64.
//
// kTransposedA: A lies in memory as (kDepth, kRows); kTransposedB: B as (kCols, kDepth). Rows in shared memory start on 16
// bytes and are padded so that the reads of a warp meet no bank twice.
#include <type_traits>

#include "common/dispatch.h"
#include "cuda/tensor_core.cuh"

namespace pcperc {

// Shapes and strides that both kinds of tile share; kChunks is the depth of a step in copies of 16 bytes.
template <class T, int kRowsOf, int kColsOf, int kChunksOf, int kStagesOf, int kThreadsOf, bool kTransposedA, int kPadA, int kPadB,
          bool kTransposedBOf = false>
struct TileShape {
  using Value = T;
  using Sum = Accumulator<T>;
  static constexpr bool kTransposed = kTransposedA, kTransposedB = kTransposedBOf;
  static constexpr int kRows = kRowsOf, kCols = kColsOf, kStages = kStagesOf, kThreads = kThreadsOf;
  static constexpr int kChunk = 16 / sizeof(T);  // values in one 16-byte copy
  static constexpr int kChunks = kChunksOf, kDepth = kChunks * kChunk;
  static constexpr int kStrideA = (kTransposed ? kRows : kDepth) + kPadA, kStrideB = (kTransposedB ? kDepth : kCols) + kPadB;
  static constexpr int kSizeA = (kTransposed ? kDepth : kRows) * kStrideA, kSizeB = (kTransposedB ? kCols : kDepth) * kStrideB;
  static constexpr int kStoreRows = kRows < 64 ? kRows : 64;  // rows whose sums are stored at a time
  static constexpr int kStrideSums = kCols + 8;
  static constexpr int kPipelineBytes = kStages * (kSizeA + kSizeB) * static_cast<int>(sizeof(T));
  static constexpr int kSumsBytes = kStoreRows * kStrideSums * static_cast<int>(sizeof(Sum));
  static constexpr int kBytes = kPipelineBytes > kSumsBytes ? kPipelineBytes : kSumsBytes;
};

constexpr int kPieceRows = 16;             // rows that are multiplied together or not at all
constexpr uint32_t kAllPieces = ~uint32_t{0};  // one bit each

// The padding of a matrix that ldmatrix reads, and of one whose float32 values are read singly: there t steps a row on.
template <class T>
constexpr int kMatrixPad = 16 / sizeof(T);
template <class T>
constexpr int kSinglePad = 8;

// B out of rows of kStride values that are B's or, transposed, its columns.
template <class T, int kStride, bool kTransposedB>
struct RightMatrix {
  // Where depth k and column col start.
  __device__ static constexpr int offset(int k, int col) { return kTransposedB ? col * kStride + k : k * kStride + col; }

  // What a lane reads, relative to that.
  __device__ static int lane_offset() {
    const int lane = threadIdx.x % 32;
    if constexpr (kTransposedB) return offset(lane / 8 % 2 * (16 / sizeof(T)), lane / 16 * 8 + lane % 8);
    return sizeof(T) == 2 ? offset(lane % 16, lane / 16 * 8) : offset(lane % 4, lane / 4);
  }

  // The fragments of depth [0, 32 bytes) and columns [0, 8) and [8, 16) from this lane's place on.
  __device__ __forceinline__ static void load(uint32_t (&first)[2], uint32_t (&second)[2], const T* mine) {
    uint32_t both[4];
    if constexpr (kTransposedB) {
      load_matrices(both, mine);
    } else if constexpr (sizeof(T) == 2) {
      load_matrices_transposed(both, mine);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) both[i] = __float_as_uint(mine[offset(i % 2 * 4, i / 2 * 8)]);
    }
    if constexpr (sizeof(T) == 4) {
#pragma unroll
      for (uint32_t& value : both) value = round_to_tf32(__uint_as_float(value));
    }
    first[0] = both[0], first[1] = both[1], second[0] = both[2], second[1] = both[3];
  }
};

// __half, __nv_bfloat16, or float for TF32. Each of the kWarpRows x kWarpCols warps owns a part of the sums.
template <class T, int kRows, int kCols, int kChunks, int kStages, int kWarpRows, int kWarpCols, bool kTransposedA,
          bool kTransposedB = false>
struct TensorCoreTile : TileShape<T, kRows, kCols, kChunks, kStages, 32 * kWarpRows * kWarpCols, kTransposedA,
                                  kTransposedA ? kSinglePad<T> : kMatrixPad<T>, kTransposedB ? kMatrixPad<T> : kSinglePad<T>,
                                  kTransposedB> {
  using Shape = TileShape<T, kRows, kCols, kChunks, kStages, 32 * kWarpRows * kWarpCols, kTransposedA,
                          kTransposedA ? kSinglePad<T> : kMatrixPad<T>, kTransposedB ? kMatrixPad<T> : kSinglePad<T>, kTransposedB>;
  using Right = RightMatrix<T, Shape::kStrideB, kTransposedB>;
  static constexpr int kStep = 2 * Shape::kChunk;  // depth of one product
  static constexpr int kPiecesM = kRows / kWarpRows / kPieceRows, kPiecesN = kCols / kWarpCols / 8;
  static_assert(kPiecesM * kWarpRows * kPieceRows == kRows && kPiecesN * kWarpCols * 8 == kCols && kPiecesN % 2 == 0, "whole pieces");
  static_assert(Shape::kStoreRows % (kRows / kWarpRows) == 0 && Shape::kDepth % kStep == 0, "whole warps and steps");
  float sums[kPiecesM][kPiecesN][4] = {};

  __device__ static int lane() { return threadIdx.x % 32; }
  __device__ static int first_row() { return threadIdx.x / 32 / kWarpCols * (kRows / kWarpRows); }
  __device__ static int first_col() { return threadIdx.x / 32 % kWarpCols * (kCols / kWarpCols); }

  // A's fragment of rows [row, row + 16) and depth [k, k + kStep).
  __device__ static void load_left(uint32_t (&to)[4], const T* a, int row, int k) {
    if constexpr (!kTransposedA) {
      load_matrices(to, a + (row + lane() % 16) * Shape::kStrideA + k + lane() / 16 * Shape::kChunk);
      if constexpr (sizeof(T) == 4) {
#pragma unroll
        for (uint32_t& value : to) value = round_to_tf32(__uint_as_float(value));
      }
    } else if constexpr (sizeof(T) == 2) {
      load_matrices_transposed(to, a + (k + lane() / 16 * 8 + lane() % 8) * Shape::kStrideA + row + lane() / 8 % 2 * 8);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        to[i] = round_to_tf32(a[(k + lane() % 4 + i / 2 * 4) * Shape::kStrideA + row + lane() / 4 + i % 2 * 8]);
      }
    }
  }

  __device__ void multiply(const T* a, const T* b, uint32_t pieces) {
    pieces = pieces >> (first_row() / kPieceRows) & ((1u << kPiecesM) - 1);
    if (pieces == 0) return;
#pragma unroll
    for (int k = 0; k < Shape::kDepth; k += kStep) {
      uint32_t right[kPiecesN][2];
#pragma unroll
      for (int j = 0; j < kPiecesN; j += 2) {
        Right::load(right[j], right[j + 1], b + Right::lane_offset() + Right::offset(0, first_col()) + Right::offset(k, 8 * j));
      }
#pragma unroll
      for (int i = 0; i < kPiecesM; ++i) {
        if (!(pieces >> i & 1)) continue;
        uint32_t left[4];
        load_left(left, a, first_row() + kPieceRows * i, k);
#pragma unroll
        for (int j = 0; j < kPiecesN; ++j) multiply_fragments<T>(sums[i][j], left, right[j]);
      }
    }
  }

  // Store those of the rows [from, from + kStoreRows) that are this thread's.
  __device__ void store(float* to, int from) const {
    if (first_row() < from || first_row() >= from + Shape::kStoreRows) return;
#pragma unroll
    for (int i = 0; i < kPiecesM; ++i) {
#pragma unroll
      for (int j = 0; j < kPiecesN; ++j) {
        const int row = first_row() - from + kPieceRows * i + lane() / 4, col = first_col() + 8 * j + lane() % 4 * 2;
        *reinterpret_cast<float2*>(to + row * Shape::kStrideSums + col) = make_float2(sums[i][j][0], sums[i][j][1]);
        *reinterpret_cast<float2*>(to + (row + 8) * Shape::kStrideSums + col) = make_float2(sums[i][j][2], sums[i][j][3]);
      }
    }
  }
};

// float32 and float64: 16 x 16 threads, each 4 x 4 sums.
template <class T, bool kTransposedA>
struct PlainTile : TileShape<T, 64, 64, 4, 2, 256, kTransposedA, kMatrixPad<T>, kMatrixPad<T>> {
  using Shape = TileShape<T, 64, 64, 4, 2, 256, kTransposedA, kMatrixPad<T>, kMatrixPad<T>>;
  T sums[4][4] = {};

  __device__ static int first_row() { return threadIdx.x / 16 * 4; }
  __device__ static int first_col() { return threadIdx.x % 16 * 4; }

  __device__ void multiply(const T* a, const T* b, uint32_t pieces) {
    if (!(pieces >> (first_row() / kPieceRows) & 1)) return;
#pragma unroll
    for (int k = 0; k < Shape::kDepth; ++k) {
      T left[4], right[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = first_row() + i;
        left[i] = kTransposedA ? a[k * Shape::kStrideA + row] : a[row * Shape::kStrideA + k];
        right[i] = b[k * Shape::kStrideB + first_col() + i];
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] += left[i] * right[j];
      }
    }
  }

  __device__ void store(T* to, int) const {
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < 4; ++j) to[(first_row() + i) * Shape::kStrideSums + first_col() + j] = sums[i][j];
    }
  }
};

}  // namespace pcperc
