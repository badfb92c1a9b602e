// SPDX-License-Identifier: Apache-2.0
#pragma once
// Launches of the weight gradient's kernels, which are compiled in several sources.
#include <optional>

#include "cuda/device_attribute.h"
#include "cuda/sparse_conv_pairs.h"
#include "cuda/sparse_conv_weight_grad.cuh"

namespace pcperc {

// A launch's tensors: feats (N, Cin), grad (M, Cout) and the gradient (K, Cin / groups, Cout), contiguous; pairs of some or all
// columns of the table. blocks_per_multiprocessor: 0 for what the tile has room for.
struct WeightGradLaunch {
  const Tensor &feats, &grad, &output;
  const TapPairs& pairs;
  const ConvShape& shape;
  bool accumulates;
  int blocks_per_multiprocessor;
  cudaStream_t stream;
};

// output = the slots of each tap, added up. Defined in sparse_conv_weight_grad.cu alone: a copy of its kernel in a source that is
// compiled for one architecture might be the one that the linker keeps for all.
template <class Sum>
void launch_sum_slots(const WeightGradLaunch& launch, const Tensor& partial, int shares, int step);

// One block for each place on a multiprocessor, so that all shares end together. Shares follow from the pairs and the number of
// multiprocessors alone: sums repeat bit for bit on GPUs of one model.
template <class Tile, auto kKernel>
void launch_products(const WeightGradLaunch& launch, int shared_bytes = kSharedBytes<Tile>) {
  using T = typename Tile::Value;
  using Sum = typename Tile::Sum;
  const ConvShape& shape = launch.shape;
  const int64_t tiles = shape.groups * ceil_div(shape.in_width, Tile::kRows) * ceil_div(shape.out_width, Tile::kCols);
  const int64_t blocks_each = launch.blocks_per_multiprocessor > 0 ? launch.blocks_per_multiprocessor : Tile::kBlocks;
  const int64_t shares = std::max<int64_t>(device_attribute<cudaDevAttrMultiProcessorCount>() * blocks_each / tiles, 1);
  const Tensor partial = empty_on(launch.feats, {shares + shape.volume - 1, shape.in_width * shape.out_channels},
                                  launch.output.scalar_type());
  const WeightGradArgs<T> args{data_of<T>(launch.feats), data_of<T>(launch.grad), launch.pairs.pairs, launch.pairs.starts,
                               data_of<Sum>(partial), static_cast<int>(shape.volume), static_cast<int>(shares),
                               static_cast<int>(shape.in_channels), static_cast<int>(shape.out_channels),
                               static_cast<int>(shape.in_width), static_cast<int>(shape.out_width)};
  STD_TORCH_CHECK(tiles * shares <= INT32_MAX, "sparse_conv_weight_grad: ", tiles, " pieces of weights are more than a launch takes");
  if (shared_bytes > 48 * 1024) allow_shared_memory<kKernel>();
  kKernel<<<static_cast<unsigned>(tiles * shares), Tile::kThreads, shared_bytes, launch.stream>>>(args, static_cast<int>(tiles));
  PCPERC_LAUNCH_CHECK();
  launch_sum_slots<Sum>(launch, partial, static_cast<int>(shares), Tile::kTeams * Tile::kDepth);
}

// Tiles of the *_warpgroup.cu source, for half precision and aligned rows, by number.
template <class T>
void launch_warpgroup_weight_grad(int tile, const WeightGradLaunch& launch);

}  // namespace pcperc
