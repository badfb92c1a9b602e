// SPDX-License-Identifier: Apache-2.0
#pragma once
// How a block of a convolution finds the input rows under its taps and copies them, and the weights, to shared memory. These
// copies bound the kernels by the instructions that compute their addresses, so a thread always copies the same 16-byte chunk
// of every so many-th row: its shared addresses differ by constants, its rows start at 32-bit offsets that are listed once.
#include "cuda/sparse_conv_shape.cuh"
#include "cuda/tile_pipeline.cuh"

namespace pcperc {

constexpr int kTapChunk = 32;  // taps whose neighbours a block holds at a time: one bit each in a word
constexpr uint32_t kAbsent = ~uint32_t{0};

// Where the input rows start that a tile sees under kTapChunk taps, and the pieces in which there are any.
template <int kRows>
struct NeighborChunk {
  uint32_t starts[kTapChunk][kRows];
  uint32_t pieces[kTapChunk];
};

// Fill the chunk from tap `first_tap` on, row n starting at n * row_size; all threads get the word of the taps under which any
// row has a neighbour. All reads are begun before the first is waited for.
template <int kThreads, int kRows>
__device__ uint32_t load_neighbors(NeighborChunk<kRows>& chunk, const int32_t* neighbors, const ConvShape& shape, uint32_t row_size,
                                   int64_t first_row, int64_t first_tap) {
  constexpr int warps = kThreads / 32, taps = (kTapChunk + warps - 1) / warps, groups = kRows / 32;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t rows_in = shape.rows_in_tables();
  const int rows_left = static_cast<int>(min(shape.num_out - first_row, int64_t{kRows}));
  const int taps_left = static_cast<int>(min(shape.volume - first_tap, int64_t{kTapChunk}));
  const int32_t* from = neighbors + (first_tap + warp) * shape.num_out + first_row + lane;
  int32_t found[taps][groups];
#pragma unroll
  for (int i = 0; i < taps; ++i, from += warps * shape.num_out) {
#pragma unroll
    for (int j = 0; j < groups; ++j) {
      found[i][j] = warp + i * warps < taps_left && lane + j * 32 < rows_left ? from[j * 32] : -1;
    }
  }
#pragma unroll
  for (int i = 0; i < taps; ++i) {
    const int tap = warp + i * warps;
    if (tap >= kTapChunk) break;
    uint32_t pieces = 0;
#pragma unroll
    for (int j = 0; j < groups; ++j) {
      const bool is_present = static_cast<uint32_t>(found[i][j]) < rows_in;
      chunk.starts[tap][lane + j * 32] = is_present ? found[i][j] * row_size : kAbsent;
      const uint32_t present = __ballot_sync(0xffffffff, is_present);
      pieces |= ((present & 0xffff ? 1u : 0u) | (present >> 16 ? 2u : 0u)) << (j * 2);
    }
    if (lane == 0) chunk.pieces[tap] = pieces;
  }
  __syncthreads();
  return __ballot_sync(0xffffffff, chunk.pieces[lane] != 0);
}

// The steps over a word of taps: each tap `slices` times, lowest bit first.
struct TapSteps {
  uint32_t taps;
  int slices, slice = 0;

  __device__ int tap() const { return __ffs(taps) - 1; }
  __device__ void advance() {
    if (++slice == slices) slice = 0, taps &= taps - 1;
  }
  __device__ void skip(int steps) {
    for (; steps >= slices; steps -= slices) taps &= taps - 1;
    slice = steps;
  }
};

// The part of a matrix of kRows rows of kChunks chunks that this thread copies.
template <int kRowsOf, int kChunks, int kThreads>
struct CopyPart {
  static constexpr int kRows = kRowsOf, kRowStep = kThreads / kChunks, kCopies = (kRows + kRowStep - 1) / kRowStep;
  static_assert(kThreads % kChunks == 0, "a thread keeps its chunk");
  __device__ static int row() { return threadIdx.x / kChunks; }
  __device__ static int chunk() { return threadIdx.x % kChunks; }
};

// Copy a chunk of the rows that start at `starts`, in units of 16 bytes from `from`, to rows kStride bytes apart; absent rows
// and, unless is_inside, all become 0. Rows of pieces without their bit are left as they are. All arguments are those of this
// thread's first row and chunk. The starts are read together: between a read and a copy the hardware is made to wait.
template <class Part, int kStride>
__device__ __forceinline__ void gather_rows(uint32_t to, const unsigned char* from, const uint32_t* starts, bool is_inside,
                                            uint32_t pieces) {
  uint32_t found[Part::kCopies];
#pragma unroll
  for (int i = 0; i < Part::kCopies; ++i) found[i] = starts[i * Part::kRowStep];
#pragma unroll
  for (int i = 0; i < Part::kCopies; ++i) {
    if (!(pieces >> (i * Part::kRowStep / kPieceRows) & 1)) continue;
    copy_async(to + i * Part::kRowStep * kStride, from + uint64_t{found[i]} * 16, is_inside && found[i] != kAbsent);
  }
}

// Copy a chunk of rows row_bytes apart; those from `rows_left` on (counted from this thread's first) become 0.
template <class Part, int kStride>
__device__ __forceinline__ void copy_rows(uint32_t to, const unsigned char* from, uint32_t row_bytes, int rows_left) {
  const uint64_t step = uint64_t{row_bytes} * Part::kRowStep;
#pragma unroll
  for (int i = 0; i < Part::kCopies; ++i, from += step) {
    copy_async(to + i * Part::kRowStep * kStride, from, i * Part::kRowStep < rows_left);
  }
}

}  // namespace pcperc
