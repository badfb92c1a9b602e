// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which kernel of the convolution runs for which sizes: what was measured on such a GPU (selection_table.h), else the rules
// below. Nothing is measured while a convolution runs; tools/benchmark.py tune does that ahead.
//
// The kind of a forward kernel follows from the GPU, the dtype, the channels and the taps, never from the number of rows: within
// a kind all tiles add the same products in the same order, so that a tile chosen by the rows changes no bit. Only a tile shared
// by several blocks does, and `splits` follows from the sizes alone. A table chooses within the kind.
#include "cuda/selection_table.h"

namespace pcperc {

// The numbers by which tables call the kernels: rows x columns of a tile. A kind has its own ten.
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

enum class ConvKind : int { kTiles = 0, kDirect = 1, kWarpgroups = 10 };
inline ConvKind kind_of(int kernel) { return static_cast<ConvKind>(kernel / 10); }

// Kernels for half precision on Hopper, of the weight gradient too.
inline bool has_warpgroup_number(int kernel) { return kernel >= kWarpgroup128x64; }

inline bool is_kernel(ConvPass pass, ConvDtype dtype, int kernel) {
  const auto is_in = [&](int first, int last) { return first <= kernel && kernel <= last; };
  if (has_warpgroup_number(kernel) && dtype == ConvDtype::kTf32) return false;
  if (pass == ConvPass::kWeightGrad) return is_in(0, 4) || is_in(100, 105);
  return is_in(kTile64x32, kTile64x64Deep) || kernel == kDirect || is_in(kWarpgroup128x64, kWarpgroup256x96);
}

// Blocks that share a tile of the forward pass; blocks to a multiprocessor of the weight gradient, 0 for what it has room for.
inline bool takes_blocks(ConvPass pass, int kernel, int blocks) {
  if (pass == ConvPass::kWeightGrad) return 0 <= blocks && blocks <= 8;
  const bool can_split = has_warpgroup_number(kernel) && kernel != kWarpgroup192x256;
  return blocks == 1 || (can_split && (blocks == 2 || blocks == 4 || blocks == 8));
}

struct ConvChoice {
  int kernel, splits = 1;
};

struct WeightGradChoice {
  int tile, blocks = 0;
};

constexpr int64_t kMultiprocessors = 132;  // of the GPU that the rules were measured on

// Channels of a group, sizes of the rest.
struct ConvProblem {
  int64_t rows, in_width, out_width, groups, taps;
  ConvDtype dtype;
  bool has_warpgroups;       // what the GPU can do
  bool fits_direct = false;  // forward: whether the shared memory of a block holds the weights

  bool is_half() const { return dtype != ConvDtype::kTf32; }
  int64_t tiles(int64_t tile_rows, int64_t tile_cols) const {
    return (rows + tile_rows - 1) / tile_rows * ((out_width + tile_cols - 1) / tile_cols) * groups;
  }
  // bfloat16 runs the kernels of float16, in the same time to 3 % (docs/benchmarks/sparse_backend_gpu.md): its entries
  // stand in where only they were measured.
  const SelectionEntry* find(const SelectionTable& table, ConvPass pass) const {
    if (groups != 1) return nullptr;
    const SelectionEntry* const entry = table.find({pass, dtype, in_width, out_width, taps, rows});
    if (entry != nullptr || dtype != ConvDtype::kBfloat16) return entry;
    return table.find({pass, ConvDtype::kFloat16, in_width, out_width, taps, rows});
  }
};

inline ConvKind choose_kind(const ConvProblem& problem) {
  if (problem.fits_direct) return ConvKind::kDirect;
  // Products of 64 rows, 64 or 48 channels deep.
  const bool takes_warpgroups = problem.has_warpgroups && problem.is_half() && problem.in_width >= 48 && problem.out_width >= 48;
  return takes_warpgroups ? ConvKind::kWarpgroups : ConvKind::kTiles;
}

// Channels of a step of a warpgroup tile: 48 where they are fewer products than 64, as for 96 channels; tiles of 96 columns have both.
inline int64_t warpgroup_depth(int64_t in_width, int64_t tile_cols) {
  const bool takes_48 = (in_width + 47) / 48 * 48 < (in_width + 63) / 64 * 64;
  return tile_cols == 96 && takes_48 ? 48 : 64;
}

// Blocks that share each tile, so that all multiprocessors have work: the fewest steps one after the other, with
// what a block costs besides them.
inline int choose_splits(const ConvProblem& problem, int64_t tile_rows, int64_t tile_cols) {
  const int64_t tiles = problem.tiles(tile_rows, tile_cols), depth = warpgroup_depth(problem.in_width, tile_cols);
  const int64_t steps = problem.taps * ((problem.in_width + depth - 1) / depth);
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
  if (problem.out_width <= 64) return {kWarpgroup128x64, choose_splits(problem, 128, 64)};
  if (problem.out_width <= 96) {
    if (fills(256, 96)) return {kWarpgroup256x96};
    return {kWarpgroup128x96, choose_splits(problem, 128, 96)};
  }
  if (problem.out_width > 128 && fills(128, 256)) return {kWarpgroup128x256};
  if (fills(256, 128)) return {kWarpgroup256x128};
  return {kWarpgroup128x128, choose_splits(problem, 128, 128)};
}

inline ConvChoice choose_tile(const ConvProblem& problem) {
  if (problem.out_width <= 32) return {kTile64x32};
  return {problem.out_width > 64 && problem.tiles(128, 128) >= kMultiprocessors ? kTile128x128 : kTile64x64};
}

inline ConvChoice choose_kernel(const ConvProblem& problem, const SelectionTable& table) {
  const ConvKind kind = choose_kind(problem);
  if (const SelectionEntry* entry = problem.find(table, ConvPass::kForward)) {
    if (kind_of(entry->kernel) != kind) table.refuse(*entry, "is not of the kind that these channels take");
    return {entry->kernel, entry->blocks};
  }
  if (kind == ConvKind::kDirect) return {kDirect};
  return kind == ConvKind::kWarpgroups ? choose_warpgroup_tile(problem) : choose_tile(problem);
}

// Tiles of the weight gradient, by number too: those of any GPU and alignment, and with Hopper's for rows that start on 16 bytes.
inline int choose_team_tile(const ConvProblem& problem) {
  const int64_t wider = std::max(problem.in_width, problem.out_width);
  return wider <= 16 ? 0 : wider <= 32 ? 1 : problem.in_width <= 64 || problem.out_width <= 64 ? 2 : 3;
}

// Below 48 channels copies are the cost, and warps that share no barrier copy best.
inline WeightGradChoice choose_weight_grad(const ConvProblem& problem, const SelectionTable& table) {
  if (const SelectionEntry* entry = problem.find(table, ConvPass::kWeightGrad)) {
    if (has_warpgroup_number(entry->kernel) && !problem.has_warpgroups) table.refuse(*entry, "needs a Hopper GPU");
    return {entry->kernel, entry->blocks};
  }
  const int64_t in = problem.in_width, out = problem.out_width;
  if (problem.has_warpgroups && problem.is_half() && (std::max(in, out) > 64 || std::min(in, out) >= 48)) {
    if (in <= 64) return {out <= 64 ? 100 : 101};
    return {out <= 64 ? 102 : out <= 128 ? 104 : 105};
  }
  return {choose_team_tile(problem)};
}

}  // namespace pcperc
