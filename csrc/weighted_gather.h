// SPDX-License-Identifier: Apache-2.0
#pragma once
// Sizes and checks of the weighted gather, its adjoint and the gradient of its weights, the same on CPU and CUDA.
//   rows (P, J) int32: the rows of feats (M, C) that each point reads; one outside [0, M) is absent
//   weights (P, J) in the type of the sums
#include "segment_reduce.h"

namespace pcperc {

struct GatherSizes {
  int64_t num_points, per_point, num_rows, channels;
};

inline GatherSizes check_gather(const char* op, const Tensor& rows, const Tensor& feats, const char* name) {
  check_matrix(rows, op, "rows");
  check_dtype(rows, ScalarType::Int, op, "rows");
  check_matrix(feats, op, name);
  return {rows.size(0), rows.size(1), feats.size(0), feats.size(1)};
}

// The adjoint: order (P * J,) int32 sorts the entries of rows by value, starts (M + 1,) int32 says where each value begins.
inline GatherSizes check_scatter(const char* op, const Tensor& grad, const Tensor& rows, const Tensor& order,
                                 const Tensor& starts) {
  check_matrix(rows, op, "rows");
  check_dtype(rows, ScalarType::Int, op, "rows");
  check_matrix(grad, op, "grad");
  check_rows_of(op, "grad", grad, rows.size(0), grad.size(1));
  check_vector(order, ScalarType::Int, op, "order");
  check_vector(starts, ScalarType::Int, op, "starts");
  STD_TORCH_CHECK(order.numel() == rows.numel() && starts.numel() >= 1, op, ": order must have ", rows.numel(),
                  " values, starts at least 1");
  STD_TORCH_CHECK(rows.numel() <= INT32_MAX, op, ": rows must have at most 2^31 - 1 entries, got ", rows.numel());
  return {rows.size(0), rows.size(1), starts.numel() - 1, grad.size(1)};
}

inline void check_weights(const char* op, const Tensor& weights, const GatherSizes& s, ScalarType feats) {
  check_rows_of(op, "weights", weights, s.num_points, s.per_point);
  check_dtype(weights, accumulator_dtype(feats), op, "weights");
}

}  // namespace pcperc
