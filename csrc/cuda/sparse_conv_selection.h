// SPDX-License-Identifier: Apache-2.0
#pragma once
// The table of the forward convolution: which kernel runs for which sizes. tools/tune_sparse_conv.py times all that could.
//
// The kind of kernel follows from the GPU, the dtype, the channels and the taps, never from the number of rows: within a kind
// all tiles add the same products in the same order, so that a tile chosen by the rows changes no bit. Only a tile shared by
// several blocks does, and `splits` follows from the sizes alone.
#include <algorithm>
#include <cstdint>

namespace pcperc {

// The numbers by which tools/tune_sparse_conv.py calls the kernels: rows x columns of a tile.
enum ConvKernel : int {
  kTile64x32 = 0,
  kTile64x64 = 1,
  kTile128x128 = 2,
  kTile64x64Deep = 3,  // steps twice as deep
  kDirect = 10,
  kWarpgroup128x64 = 100,
  kWarpgroup256x64 = 101,
  kWarpgroup128x128 = 102,
  kWarpgroup256x128 = 103,
  kWarpgroup128x256 = 104,
  kWarpgroup192x256 = 105,
  kWarpgroup128x96 = 106,
  kWarpgroup256x96 = 107,
};

struct ConvChoice {
  int kernel, splits = 1;  // blocks that share the steps of a tile
};

constexpr int64_t kMultiprocessors = 132;  // of the GPU that the table was measured on

// Channels of a group, sizes of the rest.
struct ConvProblem {
  int64_t rows, in_width, out_width, groups, taps, value_bytes;
  bool has_warpgroups, fits_direct;  // what the GPU can do, and hold of the weights in the shared memory of a block

  int64_t tiles(int64_t tile_rows, int64_t tile_cols) const {
    return (rows + tile_rows - 1) / tile_rows * ((out_width + tile_cols - 1) / tile_cols) * groups;
  }
};

// Products of 64 rows, 64 channels deep, in half precision.
inline bool takes_warpgroups(const ConvProblem& problem) {
  return problem.has_warpgroups && problem.value_bytes == 2 && problem.in_width >= 48 && problem.out_width >= 48;
}

// Blocks that share each of `tiles` tiles, so that all multiprocessors have work: the fewest steps one after the other, with
// what a block costs besides them.
inline int choose_splits(const ConvProblem& problem, int64_t tiles) {
  const int64_t steps = problem.taps * ((problem.in_width + 63) / 64);
  constexpr int64_t block_steps = 12;
  int best = 1;
  int64_t best_cost = INT64_MAX;
  for (int splits = 1; splits <= 8; splits *= 2) {
    const int64_t waves = (tiles * splits + kMultiprocessors - 1) / kMultiprocessors;
    const int64_t cost = waves * ((steps + splits - 1) / splits + block_steps);
    if (cost < best_cost) best = splits, best_cost = cost;
  }
  return best;
}

inline ConvChoice choose_warpgroup_tile(const ConvProblem& problem) {
  const auto fills = [&](int64_t rows, int64_t cols) { return problem.tiles(rows, cols) >= 3 * kMultiprocessors; };
  if (problem.out_width <= 64) return {kWarpgroup128x64, choose_splits(problem, problem.tiles(128, 64))};
  if (problem.out_width <= 96) {
    if (fills(256, 96)) return {kWarpgroup256x96};
    return {kWarpgroup128x96, choose_splits(problem, problem.tiles(128, 96))};
  }
  if (problem.out_width > 128 && fills(128, 256)) return {kWarpgroup128x256};
  if (fills(256, 128)) return {kWarpgroup256x128};
  return {kWarpgroup128x128, choose_splits(problem, problem.tiles(128, 128))};
}

inline ConvChoice choose_kernel(const ConvProblem& problem) {
  if (problem.fits_direct) return {kDirect};
  if (takes_warpgroups(problem)) return choose_warpgroup_tile(problem);
  if (problem.out_width <= 32) return {kTile64x32};
  return {problem.out_width > 64 && problem.tiles(128, 128) >= kMultiprocessors ? kTile128x128 : kTile64x64};
}

}  // namespace pcperc
