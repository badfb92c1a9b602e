// SPDX-License-Identifier: Apache-2.0
#pragma once
// How a block feeds its tile: copies into a ring of shared-memory stages run while the stages before are multiplied.
#include "cuda/matrix_tiles.cuh"

namespace pcperc {

// Copy 16 bytes to shared memory; values at and behind `valid` become 0. Asynchronous where both sides are aligned, and then
// `valid` is none or all.
template <class T, bool kAligned>
__device__ __forceinline__ void copy_chunk(T* to, const T* from, int64_t valid) {
  constexpr int count = 16 / sizeof(T);
  if constexpr (kAligned) {
    copy_async(to, from, valid > 0);
  } else {
    for (int i = 0; i < count; ++i) to[i] = i < valid ? from[i] : T(0.0f);
  }
}

// Copy `rows` x `cols` values in 16-byte chunks: row r comes from source(r), or is zero where that is null; values at and
// behind column `valid_cols` are zero. Rows of pieces without their bit are left as they are. `any` is an address that may be
// named but is not read.
template <class Tile, bool kAligned, int kRowCount, int kColCount, int kStride, class T, class Source>
__device__ __forceinline__ void load_rows(T* to, int64_t valid_cols, uint32_t pieces, const T* any, const Source& source) {
  constexpr int chunks = kColCount / Tile::kChunk;
  for (int i = threadIdx.x; i < kRowCount * chunks; i += Tile::kThreads) {
    const int row = i / chunks, col = i % chunks * Tile::kChunk;
    if (!(pieces >> (row / kPieceRows) & 1)) continue;
    const T* from = source(row);
    const int64_t valid = from == nullptr ? 0 : valid_cols - col;
    copy_chunk<T, kAligned>(to + row * kStride + col, valid > 0 ? from + col : any, valid);
  }
}

// Run `steps` steps of load(a, b) and multiply over a ring of stages: the copies of the steps ahead run while a step is
// multiplied. Both load and pieces(), the pieces to multiply, are called once a step, in order. One barrier a step is enough: behind it, all threads have finished with the stage of
// the step before, which is the one filled next. Ends with no copy in flight and all threads past the last multiply.
template <class Tile, class Load, class Pieces>
__device__ __forceinline__ void run_pipeline(Tile& tile, typename Tile::Value* stages, int steps, Load load, Pieces pieces) {
  constexpr int stage_size = Tile::kSizeA + Tile::kSizeB;
  const auto fetch = [&](int step) {
    typename Tile::Value* stage = stages + step % Tile::kStages * stage_size;
    if (step < steps) load(stage, stage + Tile::kSizeA);
    commit_copies();
  };
  for (int step = 0; step < Tile::kStages - 1; ++step) fetch(step);
  for (int step = 0; step < steps; ++step) {
    wait_copies<Tile::kStages - 2>();
    __syncthreads();
    fetch(step + Tile::kStages - 1);
    const typename Tile::Value* stage = stages + step % Tile::kStages * stage_size;
    tile.multiply(stage, stage + Tile::kSizeA, pieces());
  }
  wait_copies<0>();
  __syncthreads();
}

}  // namespace pcperc
