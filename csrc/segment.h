// SPDX-License-Identifier: Apache-2.0
#pragma once
// The segments of segment_mean and its gradient, checked.
#include <torch/csrc/stable/tensor.h>

#include <cstdint>

#include "common/check.h"

namespace pcperc {

struct MeanSegments {
  const int32_t *order, *starts, *counts;  // segment i holds the rows order[starts[i] .. starts[i] + counts[i]]
  int64_t size;
};

inline MeanSegments check_mean_segments(const Tensor& feats, const Tensor& order, const Tensor& starts,
                                        const Tensor& counts, const char* op) {
  check_matrix(feats, op, "feats");
  check_dtype(order, ScalarType::Int, op, "order");
  check_dtype(starts, ScalarType::Int, op, "starts");
  check_dtype(counts, ScalarType::Int, op, "counts");
  STD_TORCH_CHECK(starts.numel() == counts.numel(), op, ": starts and counts must have the same length");
  STD_TORCH_CHECK(order.is_contiguous() && starts.is_contiguous() && counts.is_contiguous(), op,
                  ": order, starts and counts must be contiguous");
  return {order.const_data_ptr<int32_t>(), starts.const_data_ptr<int32_t>(), counts.const_data_ptr<int32_t>(),
          starts.numel()};
}

}  // namespace pcperc
