// SPDX-License-Identifier: Apache-2.0
#pragma once
// Sizes and checks of sparse_conv, sparse_conv_fused and sparse_conv_weight_grad, the same on CPU and CUDA.
#include <optional>

#include "common/check.h"
#include "common/coord_key.h"

namespace pcperc {

struct ConvSizes {
  int64_t num_in, num_out, volume, in_channels, out_channels, groups;

  int64_t group_in() const { return in_channels / groups; }
  int64_t group_out() const { return out_channels / groups; }

  // An entry of a table that is no row of the input counts as an absent neighbour, on CPU and CUDA: to refuse it, a GPU would
  // have to be waited for in every layer.
  PCPERC_HOST_DEVICE bool is_input_row(int64_t entry) const { return entry >= 0 && entry < num_in; }
};

// Half-precision features may come with float32 parameters, which are then rounded to the features' dtype; their gradient
// stays float32, where a float16 one could overflow.
inline bool is_parameter_dtype(ScalarType parameter, ScalarType feats) {
  const bool is_half = feats == ScalarType::Half || feats == ScalarType::BFloat16;
  return parameter == feats || (is_half && parameter == ScalarType::Float);
}

inline void check_tables(const char* op, const Tensor& neighbors, const std::optional<Tensor>& reverse,
                         const ConvSizes& sizes) {
  check_dtype(neighbors, ScalarType::Int, op, "neighbors");
  STD_TORCH_CHECK(neighbors.dim() == 2 && neighbors.size(0) == sizes.volume && neighbors.size(1) == sizes.num_out, op,
                  ": neighbors must be (", sizes.volume, ", ", sizes.num_out, ")");
  if (!reverse.has_value()) return;
  check_dtype(*reverse, ScalarType::Int, op, "reverse_neighbors");
  STD_TORCH_CHECK(reverse->dim() == 2 && reverse->size(0) == sizes.volume && reverse->size(1) == sizes.num_in, op,
                  ": reverse_neighbors must be (", sizes.volume, ", ", sizes.num_in, ")");
}

// An order may be any numbers: one that is no output row is left out, one that is missing leaves its row undefined.
inline void check_row_order(const char* op, const std::optional<Tensor>& row_order, int64_t num_rows, const char* name = "row_order") {
  if (!row_order.has_value()) return;
  check_dtype(*row_order, ScalarType::Int, op, name);
  STD_TORCH_CHECK(row_order->dim() == 1 && row_order->size(0) == num_rows, op, ": ", name, " must be (", num_rows, ",)");
}

inline void check_groups(const char* op, const ConvSizes& sizes) {
  STD_TORCH_CHECK(sizes.groups >= 1 && sizes.in_channels % sizes.groups == 0 && sizes.out_channels % sizes.groups == 0, op,
                  ": groups must divide ", sizes.in_channels, " and ", sizes.out_channels, " channels, got ", sizes.groups);
}

inline ConvSizes check_sparse_conv(const char* op, const Tensor& feats, const Tensor& weight, const Tensor& neighbors,
                                   const std::optional<Tensor>& reverse, const std::optional<Tensor>& bias, int64_t groups) {
  STD_TORCH_CHECK(feats.dim() == 2, op, ": feats must be (N, Cin), got ", feats.dim(), " dimensions");
  STD_TORCH_CHECK(weight.dim() == 3, op, ": weight must be (K, Cin / groups, Cout), got ", weight.dim(), " dimensions");
  STD_TORCH_CHECK(neighbors.dim() == 2, op, ": neighbors must be (K, M), got ", neighbors.dim(), " dimensions");
  const ConvSizes sizes{feats.size(0), neighbors.size(1), weight.size(0), feats.size(1), weight.size(2), groups};
  check_groups(op, sizes);
  STD_TORCH_CHECK(weight.size(1) * groups == sizes.in_channels, op, ": feats has ", feats.size(1), " channels, weight expects ",
                  weight.size(1) * groups);
  STD_TORCH_CHECK(is_parameter_dtype(weight.scalar_type(), feats.scalar_type()), op, ": weight is ",
                  torch::headeronly::toString(weight.scalar_type()), ", feats ",
                  torch::headeronly::toString(feats.scalar_type()));
  check_tables(op, neighbors, reverse, sizes);
  if (bias.has_value()) {
    STD_TORCH_CHECK(bias->dim() == 1 && bias->size(0) == sizes.out_channels, op, ": bias must be (", sizes.out_channels, ",)");
    STD_TORCH_CHECK(bias->scalar_type() == weight.scalar_type(), op, ": bias and weight must have the same dtype");
  }
  return sizes;
}

inline void check_residual(const char* op, const Tensor& residual, const Tensor& feats, const ConvSizes& sizes) {
  check_dtype(residual, feats.scalar_type(), op, "residual");
  STD_TORCH_CHECK(residual.dim() == 2 && residual.size(0) == sizes.num_out && residual.size(1) == sizes.out_channels, op,
                  ": residual must be (", sizes.num_out, ", ", sizes.out_channels, ")");
}

inline ConvSizes check_weight_grad(const Tensor& feats, const Tensor& grad_output, const Tensor& neighbors,
                                   const std::optional<Tensor>& reverse, int64_t groups) {
  constexpr const char* op = "sparse_conv_weight_grad";
  STD_TORCH_CHECK(feats.dim() == 2 && grad_output.dim() == 2 && neighbors.dim() == 2, op,
                  ": feats, grad_output and neighbors must have 2 dimensions");
  const ConvSizes sizes{feats.size(0), grad_output.size(0), neighbors.size(0), feats.size(1), grad_output.size(1), groups};
  check_groups(op, sizes);
  STD_TORCH_CHECK(feats.scalar_type() == grad_output.scalar_type(), op, ": feats and grad_output must have the same dtype");
  check_tables(op, neighbors, reverse, sizes);
  return sizes;
}

// float64 sums for float64, float32 sums for all else.
inline ScalarType sum_dtype(ScalarType feats) { return feats == ScalarType::Double ? ScalarType::Double : ScalarType::Float; }

}  // namespace pcperc
