// SPDX-License-Identifier: Apache-2.0
#pragma once
// The matrix product that one block holds in registers: sums (kRows, kCols) += A (kRows, kDepth) @ B (kDepth, kCols), with A
// and B in shared memory. Tensor cores for half precision, plain fused multiply-adds for float32 and float64.
//
// kTransposed: A lies in memory as (kDepth, kRows). Rows in shared memory are padded by 16 bytes against bank conflicts;
// wmma needs the start of each 16 x 16 piece on 32 bytes, which 16 rows of a padded tile keep.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

#include <type_traits>

#include "common/dispatch.h"

namespace pcperc {

// Shapes and strides that both kinds of tile share.
template <class T, int kColumns, int kDepthOf, int kStagesOf, int kThreadsOf, bool kTransposedA>
struct TileShape {
  using Value = T;
  using Sum = Accumulator<T>;
  static constexpr bool kTransposed = kTransposedA;
  static constexpr int kRows = 64, kCols = kColumns, kDepth = kDepthOf, kStages = kStagesOf, kThreads = kThreadsOf;
  static constexpr int kChunk = 16 / sizeof(T);  // values in one 16-byte copy
  static constexpr int kStrideA = (kTransposed ? kRows : kDepth) + kChunk, kStrideB = kCols + kChunk;
  static constexpr int kSizeA = (kTransposed ? kDepth : kRows) * kStrideA, kSizeB = kDepth * kStrideB;
  static constexpr int kStrideSums = kCols + 4;
  static constexpr int kPipelineBytes = kStages * (kSizeA + kSizeB) * static_cast<int>(sizeof(T));
  static constexpr int kSumsBytes = kRows * kStrideSums * static_cast<int>(sizeof(Sum));
  static constexpr int kBytes = kPipelineBytes > kSumsBytes ? kPipelineBytes : kSumsBytes;
};

// Half precision: 4 warps, 2 x 2, each 32 x kCols / 2, in float32 sums.
template <class T, int kColumns, bool kTransposedA>
struct TensorCoreTile : TileShape<T, kColumns, 32, 3, 128, kTransposedA> {
  using Shape = TileShape<T, kColumns, 32, 3, 128, kTransposedA>;
  using LayoutA = std::conditional_t<kTransposedA, nvcuda::wmma::col_major, nvcuda::wmma::row_major>;
  static constexpr int kPiecesN = kColumns / 32;
  nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> sums[2][kPiecesN];

  __device__ TensorCoreTile() {
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < kPiecesN; ++j) nvcuda::wmma::fill_fragment(sums[i][j], 0.0f);
    }
  }

  __device__ int first_row() const { return threadIdx.x / 64 * 32; }
  __device__ int first_col() const { return threadIdx.x / 32 % 2 * (kColumns / 2); }

  __device__ void multiply(const T* a, const T* b) {
#pragma unroll
    for (int k = 0; k < Shape::kDepth; k += 16) {
      nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, T, LayoutA> left[2];
      nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, T, nvcuda::wmma::row_major> right[kPiecesN];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = first_row() + 16 * i;
        const T* from = kTransposedA ? a + k * Shape::kStrideA + row : a + row * Shape::kStrideA + k;
        nvcuda::wmma::load_matrix_sync(left[i], from, Shape::kStrideA);
      }
#pragma unroll
      for (int j = 0; j < kPiecesN; ++j) {
        nvcuda::wmma::load_matrix_sync(right[j], b + k * Shape::kStrideB + first_col() + 16 * j, Shape::kStrideB);
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < kPiecesN; ++j) nvcuda::wmma::mma_sync(sums[i][j], left[i], right[j], sums[i][j]);
      }
    }
  }

  __device__ void store(float* to) const {
    for (int i = 0; i < 2; ++i) {
      for (int j = 0; j < kPiecesN; ++j) {
        float* piece = to + (first_row() + 16 * i) * Shape::kStrideSums + first_col() + 16 * j;
        nvcuda::wmma::store_matrix_sync(piece, sums[i][j], Shape::kStrideSums, nvcuda::wmma::mem_row_major);
      }
    }
  }
};

// float32 and float64: 16 x 16 threads, each 4 x 4 sums.
template <class T, bool kTransposedA>
struct PlainTile : TileShape<T, 64, 16, 2, 256, kTransposedA> {
  using Shape = TileShape<T, 64, 16, 2, 256, kTransposedA>;
  T sums[4][4] = {};

  __device__ int first_row() const { return threadIdx.x / 16 * 4; }
  __device__ int first_col() const { return threadIdx.x % 16 * 4; }

  __device__ void multiply(const T* a, const T* b) {
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

  __device__ void store(T* to) const {
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < 4; ++j) to[(first_row() + i) * Shape::kStrideSums + first_col() + j] = sums[i][j];
    }
  }
};

}  // namespace pcperc
