// SPDX-License-Identifier: Apache-2.0
// Weight and bias gradients of the sparse convolution on the GPU: launches and registration. The kernels are in
// sparse_conv_weight_grad.cuh.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "cuda/sparse_conv_weight_grad.cuh"

namespace pcperc {
namespace {

constexpr int64_t kMaxPartialBytes = int64_t{64} << 20;

// How an operator's output rows are cut; by the sizes alone, so that the sums repeat bit for bit.
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

template <class Arithmetic>
using TileOf = std::conditional_t<Arithmetic::kTensorCores, TensorCoreTile<typename Arithmetic::Value, 64, 64, 4, 3, 2, 2, true>,
                                  PlainTile<typename Arithmetic::Value, true>>;

template <class Tile, bool kAligned, class T>
void launch_tile(const WeightGradArgs<T>& args, int64_t splits, cudaStream_t stream) {
  const ConvShape& shape = args.shape;
  const int64_t tiles = ceil_div(shape.in_width, Tile::kRows) * ceil_div(shape.out_width, Tile::kCols);
  launch_kernel(weight_grad_kernel<Tile, kAligned>, {tiles * shape.groups * shape.volume, splits}, Tile::kThreads, Tile::kBytes,
                stream, args);
}

// rows, columns, depth in 16-byte copies, stages, warps over rows and over columns
template <class T, int kRows, int kCols, int kChunks, int kStages, int kWarpRows, int kWarpCols>
using GradTile = TensorCoreTile<T, kRows, kCols, kChunks, kStages, kWarpRows, kWarpCols, true>;

// The tiles that tools/tune_sparse_conv.py measures, by number.
template <class T>
void launch_numbered(int tile, const WeightGradArgs<T>& args, int64_t splits, cudaStream_t stream) {
  switch (tile) {
    case 0: return launch_tile<GradTile<T, 64, 64, 4, 3, 2, 2>, true>(args, splits, stream);
    case 1: return launch_tile<GradTile<T, 128, 128, 4, 4, 2, 4>, true>(args, splits, stream);
    case 2: return launch_tile<GradTile<T, 128, 128, 4, 4, 2, 2>, true>(args, splits, stream);
    case 3: return launch_tile<GradTile<T, 128, 64, 4, 4, 4, 1>, true>(args, splits, stream);
    case 4: return launch_tile<GradTile<T, 32, 32, 4, 4, 2, 2>, true>(args, splits, stream);
    case 5: return launch_tile<GradTile<T, 16, 16, 4, 4, 1, 1>, true>(args, splits, stream);
    default: STD_TORCH_CHECK(false, "sparse_conv_weight_grad: no tile ", tile);
  }
}

template <int kVector, class T>
void launch_narrow(const WeightGradArgs<T>& args, int64_t splits, cudaStream_t stream) {
  const ConvShape& shape = args.shape;
  const int64_t vectors = shape.in_width * shape.out_channels / kVector;
  const dim3 threads = narrow_block(vectors);
  const int64_t blocks = ceil_div(vectors, threads.x) * ceil_div(shape.volume, kGradTaps);
  launch_kernel(narrow_weight_grad_kernel<T, kVector>, {blocks, splits}, threads, 0, stream, args);
}

template <class Arithmetic>
void launch_weight_grad(const Tensor& feats, const Tensor& grad, const Tensor& neighbors,
                        const std::optional<Tensor>& row_order, const ConvShape& shape,
                        const Tensor& output, int tile, int64_t split_rows, cudaStream_t stream) {
  using T = typename Arithmetic::Value;
  using Sum = Accumulator<T>;
  using Tile = TileOf<Arithmetic>;
  const int64_t affordable = std::max<int64_t>(kMaxPartialBytes / (output.numel() * static_cast<int64_t>(sizeof(Sum))), 1);
  const Splits splits = shape.is_narrow() ? Splits(shape.num_out, 1024, std::min<int64_t>(64, affordable))
                                          : Splits(shape.num_out, split_rows, std::min<int64_t>(256, affordable));
  const Tensor partial = splits.count == 1 ? output : empty_on(feats, {splits.count, output.numel()}, output.scalar_type());
  const WeightGradArgs<T> args{data_of<T>(feats), data_of<T>(grad), data_of<int32_t>(neighbors),
                               row_order ? data_of<int32_t>(*row_order) : nullptr, data_of<Sum>(partial), splits.rows, shape};
  if (shape.is_narrow()) {
    constexpr int vector = 16 / sizeof(Sum);
    const int64_t bytes = vector * sizeof(T);
    const bool aligned = shape.is_depthwise() && is_aligned(feats, shape.in_channels * sizeof(T), bytes) &&
                         is_aligned(grad, shape.out_channels * sizeof(T), bytes);
    aligned ? launch_narrow<vector>(args, splits.count, stream) : launch_narrow<1>(args, splits.count, stream);
  } else {
    const bool aligned = is_aligned(feats, shape.in_width * sizeof(T)) && is_aligned(grad, shape.out_width * sizeof(T));
    if constexpr (Arithmetic::kTensorCores) {
      if (aligned && tile >= 0) launch_numbered(tile, args, splits.count, stream);
    }
    if (!(Arithmetic::kTensorCores && aligned && tile >= 0)) {
      aligned ? launch_tile<Tile, true>(args, splits.count, stream) : launch_tile<Tile, false>(args, splits.count, stream);
    }
  }
  if (splits.count > 1) launch_sum_splits<Sum>(partial, splits.count, output, stream);
}

template <class T>
void launch_bias_grad(const Tensor& grad, const ConvShape& shape, const Tensor& output, cudaStream_t stream) {
  using Sum = Accumulator<T>;
  const Splits splits(shape.num_out, 1024, 256);
  const Tensor partial = empty_on(grad, {splits.count, shape.out_channels}, output.scalar_type());
  launch_kernel(bias_grad_kernel<T, Sum>, {ceil_div(shape.out_channels, kSumColumns), splits.count}, dim3(kSumColumns, kSumLanes), 0,
                stream, data_of<T>(grad), data_of<Sum>(partial), shape.num_out, shape.out_channels, splits.rows);
  launch_sum_splits<Sum>(partial, splits.count, output, stream);
}

std::tuple<Tensor, Tensor> weight_grad_tiled(Tensor feats, Tensor grad_output, Tensor neighbors,
                                             std::optional<Tensor> reverse_neighbors, bool with_bias, int64_t groups,
                                             bool allow_tf32, std::optional<Tensor> row_order, int64_t tile,
                                             int64_t split_rows) {
  const ConvShape shape(check_weight_grad(feats, grad_output, neighbors, reverse_neighbors, groups));
  check_row_order("sparse_conv_weight_grad", row_order, shape.num_out);
  check_one_device("sparse_conv_weight_grad", {feats, grad_output, neighbors, row_order.value_or(feats)});
  const CudaScope scope(feats);
  const ScalarType sums = sum_dtype(feats.scalar_type());
  const Tensor x = torch::stable::contiguous(feats), g = torch::stable::contiguous(grad_output);
  const Tensor table = torch::stable::contiguous(neighbors);
  std::optional<Tensor> order;
  if (row_order) order = torch::stable::contiguous(*row_order);
  Tensor grad_weight = empty_on(feats, {shape.volume, shape.in_width, shape.out_channels}, sums);
  Tensor grad_bias = empty_on(feats, {with_bias ? shape.out_channels : 0}, sums);
  dispatch_arithmetic(feats.scalar_type(), allow_tf32, "sparse_conv_weight_grad", [&](auto arithmetic) {
    using Chosen = decltype(arithmetic);
    if (grad_weight.numel() > 0) launch_weight_grad<Chosen>(x, g, table, order, shape, grad_weight, static_cast<int>(tile), split_rows, scope.stream());
    if (grad_bias.numel() > 0) launch_bias_grad<typename Chosen::Value>(g, shape, grad_bias, scope.stream());
  });
  return {grad_weight, grad_bias};
}

std::tuple<Tensor, Tensor> sparse_conv_weight_grad(Tensor feats, Tensor grad_output, Tensor neighbors,
                                                   std::optional<Tensor> reverse_neighbors, bool with_bias, int64_t groups,
                                                   bool allow_tf32, std::optional<Tensor> row_order,
                                                   std::optional<Tensor> /*reverse_row_order*/) {
  return weight_grad_tiled(feats, grad_output, neighbors, reverse_neighbors, with_bias, groups, allow_tf32, row_order, -1, 4096);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("sparse_conv_weight_grad", TORCH_BOX(&sparse_conv_weight_grad));
  m.impl("sparse_conv_weight_grad_tiled", TORCH_BOX(&weight_grad_tiled));
}

}  // namespace pcperc
