// SPDX-License-Identifier: Apache-2.0
// Weight and bias gradients of the sparse convolution on the GPU: the choice of kernels, and registration.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cuda/sparse_conv_problem.h"
#include "cuda/sparse_conv_weight_grad_launch.cuh"
#include "cuda/sparse_conv_weight_grad_narrow.cuh"

namespace pcperc {

constexpr int64_t kFullGrid = int64_t{1} << 17;  // threads that keep a GPU busy

template <class Sum>
void launch_sum_slots(const WeightGradLaunch& launch, const Tensor& partial, int shares, int step) {
  const int64_t tap_size = launch.output.numel() / launch.shape.volume;
  const auto run = [&](auto vector) {
    constexpr int kVector = decltype(vector)::value;
    const int64_t vectors = tap_size / kVector;
    unsigned lanes = 1;
    while (lanes < 8 && vectors * launch.shape.volume * lanes < kFullGrid) lanes *= 2;
    const dim3 threads(kThreads / lanes, lanes);
    launch_kernel(sum_slots_kernel<Sum, kVector>, {ceil_div(vectors, threads.x) * launch.shape.volume}, threads, 0, launch.stream,
                  data_of<Sum>(partial), launch.pairs.starts, static_cast<int>(launch.shape.volume), shares, step,
                  tap_size, launch.accumulates, data_of<Sum>(launch.output));
  };
  constexpr int vector = 16 / sizeof(Sum);
  tap_size % vector == 0 ? run(std::integral_constant<int, vector>{}) : run(std::integral_constant<int, 1>{});
}

template void launch_sum_slots<float>(const WeightGradLaunch&, const Tensor&, int, int);
template void launch_sum_slots<double>(const WeightGradLaunch&, const Tensor&, int, int);

extern template void launch_warpgroup_weight_grad<__half>(int, const WeightGradLaunch&);
extern template void launch_warpgroup_weight_grad<__nv_bfloat16>(int, const WeightGradLaunch&);

namespace {

constexpr const char* kOp = "sparse_conv_weight_grad";

// What tools/benchmark.py tune measures, -1 and 0 standing for the choice by sizes: a tile by number (sparse_conv_selection.h)
// and its blocks to a multiprocessor.
struct Tuning {
  int tile = -1, blocks = 0;
};

template <class Tile, bool kAligned>
void launch_tile(const WeightGradLaunch& launch) {
  launch_products<Tile, weight_grad_kernel<Tile, kAligned>>(launch);
}

// rows and columns of sums, products to a stage, stages, warps of a team over rows and columns, teams, blocks
template <class T>
void launch_aligned(int tile, const WeightGradLaunch& launch) {
  switch (tile) {
    case 0: return launch_tile<WarpWeightTile<T, 16, 16, 2, 4, 1, 1, 8, 2>, true>(launch);
    case 1: return launch_tile<WarpWeightTile<T, 32, 32, 2, 3, 1, 1, 4, 3>, true>(launch);
    case 2: return launch_tile<WarpWeightTile<T, 64, 64, 1, 4, 1, 1, 4, 2>, true>(launch);
    case 3: return launch_tile<WarpWeightTile<T, 128, 128, 2, 4, 2, 2, 1, 2>, true>(launch);
    case 4: return launch_tile<WarpWeightTile<T, 64, 64, 4, 3, 2, 2, 1, 3>, true>(launch);
    default: STD_TORCH_CHECK(false, kOp, ": no tile ", tile);
  }
}

template <class T>
void launch_unaligned(int tile, const WeightGradLaunch& launch) {
  switch (tile) {
    case 0: return launch_tile<WarpWeightTile<T, 16, 16, 2, 4, 1, 1, 8, 2>, false>(launch);
    case 1: return launch_tile<WarpWeightTile<T, 32, 32, 2, 3, 1, 1, 4, 3>, false>(launch);
    default: return launch_tile<WarpWeightTile<T, 64, 64, 1, 4, 1, 1, 4, 2>, false>(launch);
  }
}

template <class Arithmetic>
void launch_products_of(WeightGradLaunch launch, Tuning tuning) {
  using T = typename Arithmetic::Value;
  const ConvShape& shape = launch.shape;
  const bool aligned = is_aligned(launch.feats, shape.in_width * sizeof(T)) && is_aligned(launch.grad, shape.out_width * sizeof(T));
  if constexpr (Arithmetic::kTensorCores) {
    const ConvProblem problem = problem_of<T>(shape);
    if (!aligned) return launch_unaligned<T>(choose_team_tile(problem), launch);
    const WeightGradChoice choice = tuning.tile < 0 ? choose_weight_grad(problem, selection_table()) : WeightGradChoice{tuning.tile};
    if (tuning.blocks == 0) launch.blocks_per_multiprocessor = choice.blocks;
    if constexpr (sizeof(T) == 2) {
      if (has_warpgroup_number(choice.tile)) return launch_warpgroup_weight_grad<T>(choice.tile - kWarpgroup128x64, launch);
    }
    launch_aligned<T>(choice.tile, launch);
  } else {
    aligned ? launch_tile<PlainWeightTile<T>, true>(launch) : launch_tile<PlainWeightTile<T>, false>(launch);
  }
}

// Over the pairs that are listed already, or over the table, as many columns at once as may be listed together.
template <class Arithmetic>
void launch_weight_grad(const Tensor& feats, const Tensor& grad, const Tensor& neighbors, const int32_t* row_order,
                        const std::optional<TapPairs>& listed, const ConvShape& shape, const Tensor& output, Tuning tuning,
                        cudaStream_t stream) {
  if (listed) return launch_products_of<Arithmetic>({feats, grad, output, *listed, shape, false, tuning.blocks, stream}, tuning);
  const int64_t most = most_listed_columns(shape);
  for (int64_t first = 0; first < shape.num_out; first += most) {
    const TableColumns columns{data_of<int32_t>(neighbors), row_order, first, std::min(most, shape.num_out - first)};
    const TapPairs pairs = list_pairs(feats, columns, shape, stream);
    launch_products_of<Arithmetic>({feats, grad, output, pairs, shape, first > 0, tuning.blocks, stream}, tuning);
  }
}

// How rows are cut for partial sums; by the sizes alone, so that the sums repeat bit for bit.
struct Splits {
  int64_t count, rows;

  Splits(int64_t num_out, int64_t split_rows, int64_t max_count)
      : count(std::clamp<int64_t>(ceil_div(num_out, split_rows), 1, max_count)), rows(std::max<int64_t>(ceil_div(num_out, count), 1)) {}
};

template <class Sum>
void launch_sum_splits(const Tensor& partial, int64_t splits, const Tensor& output, cudaStream_t stream) {
  const int64_t count = output.numel();
  launch_kernel(sum_splits_kernel<Sum>, {grid_size(count)}, kThreads, 0, stream, data_of<Sum>(partial), splits, count,
                data_of<Sum>(output));
}

template <class T>
void launch_narrow_weight_grad(const Tensor& feats, const Tensor& grad, const Tensor& neighbors, const int32_t* row_order,
                               const ConvShape& shape, const Tensor& output, cudaStream_t stream) {
  using Sum = Accumulator<T>;
  constexpr int64_t kMaxPartialBytes = int64_t{64} << 20;
  const int64_t affordable = std::max<int64_t>(kMaxPartialBytes / (output.numel() * static_cast<int64_t>(sizeof(Sum))), 1);
  const Splits splits(shape.num_out, 1024, std::min<int64_t>(64, affordable));
  const Tensor partial = splits.count == 1 ? output : empty_on(feats, {splits.count, output.numel()}, output.scalar_type());
  const NarrowGradArgs<T> args{data_of<T>(feats), data_of<T>(grad), data_of<int32_t>(neighbors), row_order,
                               data_of<Sum>(partial), splits.rows, shape};
  const auto run = [&](auto vector) {
    constexpr int kVector = decltype(vector)::value;
    const int64_t vectors = shape.in_width * shape.out_channels / kVector;
    const dim3 threads = narrow_block(vectors);
    const int64_t blocks = ceil_div(vectors, threads.x) * ceil_div(shape.volume, kGradTaps);
    launch_kernel(narrow_weight_grad_kernel<T, kVector>, {blocks, splits.count}, threads, 0, stream, args);
  };
  constexpr int vector = 16 / sizeof(Sum);
  const int64_t bytes = vector * sizeof(T);
  const bool aligned = shape.is_depthwise() && is_aligned(feats, shape.in_channels * sizeof(T), bytes) &&
                       is_aligned(grad, shape.out_channels * sizeof(T), bytes);
  aligned ? run(std::integral_constant<int, vector>{}) : run(std::integral_constant<int, 1>{});
  if (splits.count > 1) launch_sum_splits<Sum>(partial, splits.count, output, stream);
}

template <class T>
void launch_bias_grad(const Tensor& grad, const ConvShape& shape, const Tensor& output, cudaStream_t stream) {
  using Sum = Accumulator<T>;
  const Splits splits(shape.num_out, 512, 256);
  const Tensor partial = empty_on(grad, {splits.count, shape.out_channels}, output.scalar_type());
  const auto run = [&](auto vector) {
    constexpr int kVector = decltype(vector)::value;
    const int64_t vectors = shape.out_channels / kVector;
    const dim3 threads = narrow_block(vectors);
    launch_kernel(bias_grad_kernel<T, kVector>, {ceil_div(vectors, threads.x), splits.count}, threads, 0, stream, data_of<T>(grad),
                  data_of<Sum>(partial), shape.num_out, shape.out_channels, splits.rows);
  };
  constexpr int vector = 16 / sizeof(T);
  is_aligned(grad, shape.out_channels * sizeof(T)) ? run(std::integral_constant<int, vector>{})
                                                   : run(std::integral_constant<int, 1>{});
  launch_sum_splits<Sum>(partial, splits.count, output, stream);
}

std::tuple<Tensor, Tensor> weight_grad(const Tensor& feats, const Tensor& grad_output, const Tensor& neighbors,
                                       const std::optional<Tensor>& reverse_neighbors, bool with_bias, int64_t groups,
                                       bool allow_tf32, const std::optional<Tensor>& row_order,
                                       const std::optional<Tensor>& pairs, Tuning tuning) {
  const ConvShape shape(check_weight_grad(feats, grad_output, neighbors, reverse_neighbors, groups));
  check_row_order(kOp, row_order, shape.num_out);
  check_one_device(kOp, {feats, grad_output, neighbors, row_order.value_or(neighbors), pairs.value_or(neighbors)});
  std::optional<TapPairs> listed;
  if (pairs && pairs->numel() > 0) listed = listed_pairs(kOp, *pairs, shape);
  const CudaScope scope(feats);
  const ScalarType sums = sum_dtype(feats.scalar_type());
  const Tensor x = as_contiguous(feats), g = as_contiguous(grad_output);
  const Tensor table = as_contiguous(neighbors);
  std::optional<Tensor> order;
  if (row_order) order = as_contiguous(*row_order);
  const int32_t* out_rows = order ? data_of<int32_t>(*order) : nullptr;
  Tensor grad_weight = empty_on(feats, {shape.volume, shape.in_width, shape.out_channels}, sums);
  Tensor grad_bias = empty_on(feats, {with_bias ? shape.out_channels : 0}, sums);
  dispatch_arithmetic(feats.scalar_type(), allow_tf32, kOp, [&](auto arithmetic) {
    using Chosen = decltype(arithmetic);
    using T = typename Chosen::Value;
    if (grad_bias.numel() > 0) launch_bias_grad<T>(g, shape, grad_bias, scope.stream());
    if (grad_weight.numel() == 0) return;
    if (shape.num_out == 0) {
      PCPERC_CUDA_CHECK(cudaMemsetAsync(grad_weight.data_ptr(), 0, grad_weight.numel() * sizeof(Accumulator<T>), scope.stream()));
    } else if (shape.is_narrow()) {
      launch_narrow_weight_grad<T>(x, g, table, out_rows, shape, grad_weight, scope.stream());
    } else {
      launch_weight_grad<Chosen>(x, g, table, out_rows, listed, shape, grad_weight, tuning, scope.stream());
    }
  });
  return {grad_weight, grad_bias};
}

std::tuple<Tensor, Tensor> sparse_conv_weight_grad(Tensor feats, Tensor grad_output, Tensor neighbors,
                                                   std::optional<Tensor> reverse_neighbors, bool with_bias, int64_t groups,
                                                   bool allow_tf32, std::optional<Tensor> row_order,
                                                   std::optional<Tensor> /*reverse_row_order*/, std::optional<Tensor> pairs) {
  return weight_grad(feats, grad_output, neighbors, reverse_neighbors, with_bias, groups, allow_tf32, row_order, pairs, {});
}

std::tuple<Tensor, Tensor> weight_grad_tiled(Tensor feats, Tensor grad_output, Tensor neighbors,
                                             std::optional<Tensor> reverse_neighbors, bool with_bias, int64_t groups,
                                             bool allow_tf32, std::optional<Tensor> row_order, int64_t tile, int64_t blocks) {
  const Tuning tuning{static_cast<int>(tile), static_cast<int>(blocks)};
  return weight_grad(feats, grad_output, neighbors, reverse_neighbors, with_bias, groups, allow_tf32, row_order, std::nullopt,
                     tuning);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("sparse_conv_weight_grad", TORCH_BOX(&sparse_conv_weight_grad));
  m.impl("sparse_conv_weight_grad_tiled", TORCH_BOX(&weight_grad_tiled));
}

}  // namespace pcperc
