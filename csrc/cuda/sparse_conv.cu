// SPDX-License-Identifier: Apache-2.0
// Sparse convolution on the GPU: arguments and registration. The kernels are in sparse_conv_kernels.cuh.
#include <torch/csrc/stable/library.h>

#include "cuda/sparse_conv_launch.cuh"

namespace pcperc {

PCPERC_CONVOLUTION(extern, __half, true)
PCPERC_CONVOLUTION(extern, __nv_bfloat16, true)
PCPERC_CONVOLUTION(extern, float, true)
PCPERC_CONVOLUTION(extern, float, false)
PCPERC_CONVOLUTION(extern, double, false)

namespace {

// Whether the last two dimensions of (K, A, B) lie in memory as (B, A): the input gradient's weights.
bool lies_transposed(const Tensor& weight) {
  const auto strides = weight.strides();
  return weight.size(2) > 1 && strides[1] == 1 && strides[2] == weight.size(1) && strides[0] == weight.size(1) * weight.size(2);
}

struct Options {
  std::optional<Tensor> bias, residual;
  double negative_slope = 1;
  std::optional<Tensor> row_order;
  int64_t tile = -1;
};

Tensor convolve(const char* op, const Tensor& feats, const Tensor& weight, const Tensor& neighbors, const Options& options,
                const ConvShape& shape, bool allow_tf32) {
  check_one_device(op, {feats, weight, neighbors, options.bias.value_or(feats), options.residual.value_or(feats),
                        options.row_order.value_or(feats)});
  const CudaScope scope(feats);
  const ScalarType dtype = feats.scalar_type();
  Tensor output = empty_on(feats, {shape.num_out, shape.out_channels}, dtype);
  if (output.numel() == 0) return output;
  const Tensor x = as_contiguous(feats), table = as_contiguous(neighbors);
  Tensor w = as_dtype(weight, dtype);
  const auto bias = as_contiguous(options.bias), residual = as_contiguous(options.residual), order = as_contiguous(options.row_order);
  const bool is_bias_wide = bias && bias->scalar_type() == sum_dtype(dtype);
  dispatch_arithmetic(dtype, allow_tf32, op, [&](auto arithmetic) {
    using T = typename decltype(arithmetic)::Value;
    using Sum = Accumulator<T>;
    // A group of a depthwise convolution is narrower than a vector: there whole rows are cut into vectors.
    const int64_t value_bytes = sizeof(T);
    const int64_t in_bytes = (shape.is_depthwise() ? shape.in_channels : shape.in_width) * value_bytes;
    const int64_t out_bytes = (shape.is_depthwise() ? shape.out_channels : shape.out_width) * value_bytes;
    const bool are_offsets_short = shape.num_in * shape.in_channels * value_bytes / 16 < UINT32_MAX &&
                                   shape.in_width * shape.out_channels * value_bytes <= UINT32_MAX;
    const bool aligned_outputs = is_aligned(residual.value_or(output), out_bytes);
    const bool are_rows_aligned = is_aligned(x, in_bytes) && aligned_outputs && are_offsets_short;
    const bool transposed = lies_transposed(w) && is_aligned(w, in_bytes) &&
                            takes_transposed_weight<decltype(arithmetic)>(shape, are_rows_aligned);
    if (!transposed) w = as_contiguous(w);
    const bool aligned = are_rows_aligned && (transposed || is_aligned(w, out_bytes));
    const ConvArgs<T> args{data_of<T>(x), data_of<T>(w), data_of<int32_t>(table), order ? data_of<int32_t>(*order) : nullptr,
                           is_bias_wide ? data_of<Sum>(*bias) : nullptr,
                           bias && !is_bias_wide ? data_of<T>(*bias) : nullptr,
                           residual ? data_of<T>(*residual) : nullptr, static_cast<Sum>(options.negative_slope),
                           data_of<T>(output), shape, transposed, aligned_outputs, aligned};
    launch_convolution<decltype(arithmetic)>(args, static_cast<int>(options.tile), scope.stream());
  });
  return output;
}

Tensor sparse_conv(Tensor feats, Tensor weight, Tensor neighbors, std::optional<Tensor> reverse_neighbors,
                   std::optional<Tensor> bias, int64_t groups, bool allow_tf32, std::optional<Tensor> row_order,
                   std::optional<Tensor> reverse_row_order) {
  constexpr const char* op = "sparse_conv";
  const ConvShape shape(check_sparse_conv(op, feats, weight, neighbors, reverse_neighbors, bias, groups));
  check_row_order(op, row_order, shape.num_out);
  check_row_order(op, reverse_row_order, shape.num_in, "reverse_row_order");
  return convolve(op, feats, weight, neighbors, {bias, std::nullopt, 1.0, row_order}, shape, allow_tf32);
}

Tensor sparse_conv_tiled(Tensor feats, Tensor weight, Tensor neighbors, std::optional<Tensor> bias,
                         std::optional<Tensor> residual, int64_t groups, bool allow_tf32, double negative_slope,
                         std::optional<Tensor> row_order, int64_t tile) {
  constexpr const char* op = "sparse_conv_fused";
  const ConvShape shape(check_sparse_conv(op, feats, weight, neighbors, std::nullopt, bias, groups));
  if (residual.has_value()) check_residual(op, *residual, feats, shape);
  check_row_order(op, row_order, shape.num_out);
  return convolve(op, feats, weight, neighbors, {bias, residual, negative_slope, row_order, tile}, shape, allow_tf32);
}

Tensor sparse_conv_fused(Tensor feats, Tensor weight, Tensor neighbors, std::optional<Tensor> bias,
                         std::optional<Tensor> residual, int64_t groups, bool allow_tf32, double negative_slope,
                         std::optional<Tensor> row_order) {
  return sparse_conv_tiled(feats, weight, neighbors, bias, residual, groups, allow_tf32, negative_slope, row_order, -1);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("sparse_conv", TORCH_BOX(&sparse_conv));
  m.impl("sparse_conv_fused", TORCH_BOX(&sparse_conv_fused));
  m.impl("sparse_conv_tiled", TORCH_BOX(&sparse_conv_tiled));
}

}  // namespace pcperc
