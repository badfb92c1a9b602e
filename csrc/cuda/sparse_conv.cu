// SPDX-License-Identifier: Apache-2.0
// Sparse convolution on the GPU: choice of tile, launches and registration. The kernels are in sparse_conv_kernels.cuh.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/conv_geometry.h"
#include "common/launch.cuh"
#include "cuda/sparse_conv_kernels.cuh"

namespace pcperc {
namespace {

constexpr int64_t kSplitRows = 4096, kMaxSplits = 32, kMaxPartialBytes = int64_t{64} << 20;
constexpr int64_t kBiasSplitRows = 1024, kMaxBiasSplits = 256;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class T>
T* data_of(const Tensor& tensor) { return static_cast<T*>(tensor.data_ptr()); }

// 16-byte copies need rows that start on 16 bytes.
bool rows_aligned(const Tensor& tensor, int64_t row_bytes) {
  return row_bytes % 16 == 0 && reinterpret_cast<uintptr_t>(tensor.data_ptr()) % 16 == 0;
}

// Call f with a value of the type of `dtype`.
template <class F>
void dispatch(ScalarType dtype, const char* op, const F& f) {
  switch (dtype) {
    case ScalarType::Double: return f(double{});
    case ScalarType::Float: return f(float{});
    case ScalarType::Half: return f(__half{});
    case ScalarType::BFloat16: return f(__nv_bfloat16{});
    default: STD_TORCH_CHECK(false, op, ": unsupported dtype ", torch::headeronly::toString(dtype));
  }
}

template <class T, int kColumns, bool kTransposed>
using TileFor = std::conditional_t<sizeof(T) == 2, TensorCoreTile<T, kColumns, kTransposed>, PlainTile<T, kTransposed>>;

struct ConvTensors {
  Tensor feats, weight, neighbors;
  std::optional<Tensor> bias;
  Tensor output;
};

template <class Tile>
void launch_convolve(const ConvTensors& t, const ConvSizes& sizes, cudaStream_t stream) {
  using T = typename Tile::Value;
  using Sum = typename Tile::Sum;
  const int64_t value_bytes = sizeof(T);
  const bool aligned = rows_aligned(t.feats, sizes.in_channels * value_bytes) && rows_aligned(t.weight, sizes.out_channels * value_bytes);
  const auto kernel = aligned ? convolve_kernel<Tile, true> : convolve_kernel<Tile, false>;
  const dim3 grid(ceil_div(sizes.num_out, Tile::kRows), ceil_div(sizes.out_channels, Tile::kCols));
  kernel<<<grid, Tile::kThreads, 3 * sizes.volume, stream>>>(data_of<T>(t.feats), data_of<T>(t.weight),
                                                             data_of<int32_t>(t.neighbors),
                                                             t.bias ? data_of<Sum>(*t.bias) : nullptr, data_of<T>(t.output), sizes);
  PCPERC_LAUNCH_CHECK();
}

Tensor sparse_conv(Tensor feats, Tensor weight, Tensor neighbors, std::optional<Tensor> reverse_neighbors,
                   std::optional<Tensor> bias, int64_t groups, bool /*allow_tf32*/) {
  const ConvSizes sizes = check_sparse_conv("sparse_conv", feats, weight, neighbors, reverse_neighbors, bias, groups);
  STD_TORCH_CHECK(groups == 1, "sparse_conv: groups are not there yet on CUDA");
  STD_TORCH_CHECK(sizes.volume <= kMaxKernelVolume, "sparse_conv: at most ", kMaxKernelVolume, " taps, got ", sizes.volume);
  check_one_device("sparse_conv", {feats, weight, neighbors, bias.value_or(weight)});
  const CudaScope scope(feats);
  const ScalarType dtype = feats.scalar_type();
  Tensor output = empty_on(feats, {sizes.num_out, sizes.out_channels}, dtype);
  if (output.numel() == 0) return output;
  ConvTensors tensors{torch::stable::contiguous(feats), torch::stable::to(torch::stable::contiguous(weight), dtype),
                      torch::stable::contiguous(neighbors), std::nullopt, output};
  if (bias.has_value()) tensors.bias = torch::stable::to(torch::stable::contiguous(*bias), sum_dtype(dtype));
  dispatch(dtype, "sparse_conv", [&](auto zero) {
    using T = decltype(zero);
    if (sizes.out_channels <= 32) {
      launch_convolve<TileFor<T, 32, false>>(tensors, sizes, scope.stream());
    } else {
      launch_convolve<TileFor<T, 64, false>>(tensors, sizes, scope.stream());
    }
  });
  return output;
}

template <class Sum>
void launch_sum_splits(const Tensor& partial, int64_t splits, const Tensor& output, cudaStream_t stream) {
  const int64_t count = output.numel();
  sum_splits_kernel<<<grid_size(count), kThreads, 0, stream>>>(data_of<Sum>(partial), splits, count, data_of<Sum>(output));
  PCPERC_LAUNCH_CHECK();
}

template <class Tile>
void launch_weight_grad(const Tensor& feats, const Tensor& grad, const Tensor& neighbors, const ConvSizes& sizes,
                        const Tensor& output, cudaStream_t stream) {
  using T = typename Tile::Value;
  using Sum = typename Tile::Sum;
  // The cut depends on the sizes alone, so that the sum repeats bit for bit.
  const int64_t affordable = std::max<int64_t>(kMaxPartialBytes / (output.numel() * static_cast<int64_t>(sizeof(Sum))), 1);
  const int64_t splits = std::clamp<int64_t>(ceil_div(sizes.num_out, kSplitRows), 1, std::min(kMaxSplits, affordable));
  const int64_t split_rows = std::max<int64_t>(ceil_div(sizes.num_out, splits), 1);
  const Tensor partial = splits == 1 ? output : empty_on(feats, {splits, output.numel()}, output.scalar_type());
  const int64_t value_bytes = sizeof(T);
  const bool aligned = rows_aligned(feats, sizes.in_channels * value_bytes) && rows_aligned(grad, sizes.out_channels * value_bytes);
  const auto kernel = aligned ? weight_grad_kernel<Tile, true> : weight_grad_kernel<Tile, false>;
  const int64_t tiles = ceil_div(sizes.in_channels, Tile::kRows) * ceil_div(sizes.out_channels, Tile::kCols);
  const dim3 grid(tiles, sizes.volume, splits);
  kernel<<<grid, Tile::kThreads, 0, stream>>>(data_of<T>(feats), data_of<T>(grad), data_of<int32_t>(neighbors),
                                              data_of<Sum>(partial), sizes, split_rows);
  PCPERC_LAUNCH_CHECK();
  if (splits > 1) launch_sum_splits<Sum>(partial, splits, output, stream);
}

template <class T, class Sum>
void launch_bias_grad(const Tensor& grad, const ConvSizes& sizes, const Tensor& output, cudaStream_t stream) {
  const int64_t splits = std::clamp<int64_t>(ceil_div(sizes.num_out, kBiasSplitRows), 1, kMaxBiasSplits);
  const Tensor partial = empty_on(grad, {splits, sizes.out_channels}, output.scalar_type());
  const dim3 grid(ceil_div(sizes.out_channels, kSumColumns), splits), threads(kSumColumns, kSumLanes);
  bias_grad_kernel<T, Sum><<<grid, threads, 0, stream>>>(data_of<T>(grad), data_of<Sum>(partial), sizes,
                                                         ceil_div(sizes.num_out, splits));
  PCPERC_LAUNCH_CHECK();
  launch_sum_splits<Sum>(partial, splits, output, stream);
}

std::tuple<Tensor, Tensor> sparse_conv_weight_grad(Tensor feats, Tensor grad_output, Tensor neighbors,
                                                   std::optional<Tensor> reverse_neighbors, bool with_bias, int64_t groups,
                                                   bool /*allow_tf32*/) {
  const ConvSizes sizes = check_weight_grad(feats, grad_output, neighbors, reverse_neighbors, groups);
  STD_TORCH_CHECK(groups == 1, "sparse_conv_weight_grad: groups are not there yet on CUDA");
  STD_TORCH_CHECK(sizes.volume <= kMaxKernelVolume, "sparse_conv_weight_grad: at most ", kMaxKernelVolume, " taps, got ", sizes.volume);
  check_one_device("sparse_conv_weight_grad", {feats, grad_output, neighbors});
  const CudaScope scope(feats);
  const ScalarType sums = sum_dtype(feats.scalar_type());
  const Tensor x = torch::stable::contiguous(feats), g = torch::stable::contiguous(grad_output);
  const Tensor table = torch::stable::contiguous(neighbors);
  Tensor grad_weight = empty_on(feats, {sizes.volume, sizes.in_channels, sizes.out_channels}, sums);
  Tensor grad_bias = empty_on(feats, {with_bias ? sizes.out_channels : 0}, sums);
  dispatch(feats.scalar_type(), "sparse_conv_weight_grad", [&](auto zero) {
    using T = decltype(zero);
    using Tile = TileFor<T, 64, true>;
    if (grad_weight.numel() > 0) launch_weight_grad<Tile>(x, g, table, sizes, grad_weight, scope.stream());
    if (grad_bias.numel() > 0) launch_bias_grad<T, typename Tile::Sum>(g, sizes, grad_bias, scope.stream());
  });
  return {grad_weight, grad_bias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("sparse_conv", TORCH_BOX(&sparse_conv));
  m.impl("sparse_conv_weight_grad", TORCH_BOX(&sparse_conv_weight_grad));
}

}  // namespace pcperc
