// SPDX-License-Identifier: Apache-2.0
// Sparse convolution on the GPU: choice of tile, launches and registration. The kernels are in sparse_conv_kernels.cuh.
#include <torch/csrc/stable/library.h>

#include "cuda/sparse_conv_kernels.cuh"

namespace pcperc {
namespace {

constexpr int64_t kWideTiles = 128;  // so many tiles of 128 x 128 give every multiprocessor of a large GPU one

template <class Arithmetic, int kCols>
using TileOf = std::conditional_t<Arithmetic::kTensorCores, TensorCoreTile<typename Arithmetic::Value, 64, kCols, 3, 2, 2, false>,
                                  PlainTile<typename Arithmetic::Value, false>>;
template <class T>
using WideTile = TensorCoreTile<T, 128, 128, 4, 2, 4, false>;

template <class Tile, bool kAligned, class T>
void launch_tile(const ConvArgs<T>& args, cudaStream_t stream) {
  const ConvShape& shape = args.shape;
  const int64_t blocks = ceil_div(shape.num_out, Tile::kRows) * ceil_div(shape.out_width, Tile::kCols) * shape.groups;
  launch_kernel(convolve_kernel<Tile, kAligned>, {blocks}, Tile::kThreads, kConvolveBytes<Tile>, stream, args);
}

// The sums run in the same order in every tile, so that a choice by size changes no bit.
template <class Arithmetic, bool kAligned, class T>
void launch_tiles(const ConvArgs<T>& args, cudaStream_t stream) {
  const ConvShape& shape = args.shape;
  if constexpr (Arithmetic::kTensorCores && kAligned) {
    const int64_t wide_tiles = ceil_div(shape.num_out, 128) * ceil_div(shape.out_width, 128) * shape.groups;
    if (shape.out_width > 64 && wide_tiles >= kWideTiles) return launch_tile<WideTile<T>, kAligned>(args, stream);
  }
  if (shape.out_width <= 32) return launch_tile<TileOf<Arithmetic, 32>, kAligned>(args, stream);
  launch_tile<TileOf<Arithmetic, 64>, kAligned>(args, stream);
}

template <int kVector, class T>
void launch_narrow(const ConvArgs<T>& args, cudaStream_t stream) {
  const dim3 threads = narrow_block(args.shape.out_channels / kVector);
  launch_kernel(narrow_conv_kernel<T, kVector>, {ceil_div(args.shape.num_out, threads.y)}, threads, 0, stream, args);
}

template <class Arithmetic, class T>
void launch(const ConvArgs<T>& args, bool aligned, cudaStream_t stream) {
  if (!args.shape.is_narrow()) {
    return aligned ? launch_tiles<Arithmetic, true>(args, stream) : launch_tiles<Arithmetic, false>(args, stream);
  }
  aligned && args.shape.is_depthwise() ? launch_narrow<16 / sizeof(T)>(args, stream) : launch_narrow<1>(args, stream);
}

struct Epilogue {
  std::optional<Tensor> bias, residual;
  double negative_slope = 1;
};

Tensor convolve(const char* op, const Tensor& feats, const Tensor& weight, const Tensor& neighbors, const Epilogue& epilogue,
                const ConvShape& shape, bool allow_tf32) {
  check_one_device(op, {feats, weight, neighbors, epilogue.bias.value_or(feats), epilogue.residual.value_or(feats)});
  const CudaScope scope(feats);
  const ScalarType dtype = feats.scalar_type();
  Tensor output = empty_on(feats, {shape.num_out, shape.out_channels}, dtype);
  if (output.numel() == 0) return output;
  const Tensor x = torch::stable::contiguous(feats), table = torch::stable::contiguous(neighbors);
  const Tensor w = torch::stable::to(torch::stable::contiguous(weight), dtype);
  std::optional<Tensor> bias, residual;
  if (epilogue.bias) bias = torch::stable::to(torch::stable::contiguous(*epilogue.bias), sum_dtype(dtype));
  if (epilogue.residual) residual = torch::stable::contiguous(*epilogue.residual);
  dispatch_arithmetic(dtype, allow_tf32, op, [&](auto arithmetic) {
    using T = typename decltype(arithmetic)::Value;
    using Sum = Accumulator<T>;
    // A group of a depthwise convolution is narrower than a vector: there whole rows are cut into vectors.
    const int64_t value_bytes = sizeof(T);
    const int64_t in_bytes = (shape.is_depthwise() ? shape.in_channels : shape.in_width) * value_bytes;
    const int64_t out_bytes = (shape.is_depthwise() ? shape.out_channels : shape.out_width) * value_bytes;
    const bool aligned = is_aligned(x, in_bytes) && is_aligned(w, out_bytes) && is_aligned(residual.value_or(output), out_bytes);
    const ConvArgs<T> args{data_of<T>(x), data_of<T>(w), data_of<int32_t>(table), bias ? data_of<Sum>(*bias) : nullptr,
                           residual ? data_of<T>(*residual) : nullptr, static_cast<Sum>(epilogue.negative_slope),
                           data_of<T>(output), shape};
    launch<decltype(arithmetic)>(args, aligned, scope.stream());
  });
  return output;
}

Tensor sparse_conv(Tensor feats, Tensor weight, Tensor neighbors, std::optional<Tensor> reverse_neighbors,
                   std::optional<Tensor> bias, int64_t groups, bool allow_tf32) {
  constexpr const char* op = "sparse_conv";
  const ConvShape shape(check_sparse_conv(op, feats, weight, neighbors, reverse_neighbors, bias, groups));
  return convolve(op, feats, weight, neighbors, {bias}, shape, allow_tf32);
}

Tensor sparse_conv_fused(Tensor feats, Tensor weight, Tensor neighbors, std::optional<Tensor> bias,
                         std::optional<Tensor> residual, int64_t groups, bool allow_tf32, double negative_slope) {
  constexpr const char* op = "sparse_conv_fused";
  const ConvShape shape(check_sparse_conv(op, feats, weight, neighbors, std::nullopt, bias, groups));
  if (residual.has_value()) check_residual(op, *residual, feats, shape);
  return convolve(op, feats, weight, neighbors, {bias, residual, negative_slope}, shape, allow_tf32);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("sparse_conv", TORCH_BOX(&sparse_conv));
  m.impl("sparse_conv_fused", TORCH_BOX(&sparse_conv_fused));
}

}  // namespace pcperc
