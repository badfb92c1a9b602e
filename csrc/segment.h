// SPDX-License-Identifier: Apache-2.0
#pragma once
// Segments of rows, checked. Their values come from group_by_key and are not read before the kernels run; kernels cut what
// they read to the buffers, so that no argument, however wrong, leads outside of them and nothing waits for the device.
#include <torch/csrc/stable/tensor.h>

#include <cstdint>

#include "common/check.h"
#include "common/coord_key.h"

namespace pcperc {

PCPERC_HOST_DEVICE bool is_index(int64_t value, int64_t count) { return value >= 0 && value < count; }

struct EntryRange {
  int64_t begin, end;
};

// The part of [begin, end) that lies in [0, count).
PCPERC_HOST_DEVICE EntryRange entries_within(int64_t begin, int64_t end, int64_t count) {
  return {begin < 0 ? 0 : begin, end > count ? count : end};
}

inline void check_vector(const Tensor& tensor, ScalarType dtype, const char* op, const char* name) {
  check_dtype(tensor, dtype, op, name);
  STD_TORCH_CHECK(tensor.dim() == 1 && tensor.is_contiguous(), op, ": ", name, " must be contiguous, 1 dimension");
}

// Segment i holds the rows order[starts[i] .. starts[i] + counts[i]].
struct MeanSegments {
  const int32_t *order, *starts, *counts;
  int64_t size, num_entries;

  PCPERC_HOST_DEVICE EntryRange entries(int64_t i) const {
    return entries_within(starts[i], int64_t{starts[i]} + counts[i], num_entries);
  }
  // By what the sum is divided; of an empty segment it is 0.
  PCPERC_HOST_DEVICE int32_t divisor(int64_t i) const { return counts[i] > 0 ? counts[i] : 1; }
};

inline MeanSegments check_mean_segments(const Tensor& feats, const Tensor& order, const Tensor& starts,
                                        const Tensor& counts, const char* op) {
  check_matrix(feats, op, "feats");
  check_vector(order, ScalarType::Int, op, "order");
  check_vector(starts, ScalarType::Int, op, "starts");
  check_vector(counts, ScalarType::Int, op, "counts");
  STD_TORCH_CHECK(starts.numel() == counts.numel(), op, ": starts and counts must have the same length");
  return {order.const_data_ptr<int32_t>(), starts.const_data_ptr<int32_t>(), counts.const_data_ptr<int32_t>(),
          starts.numel(), order.numel()};
}

// The gradient of a mean has a row for each segment.
inline void check_mean_grad(const Tensor& grad, const MeanSegments& segments, const char* op) {
  STD_TORCH_CHECK(grad.size(0) == segments.size, op, ": grad must have ", segments.size, " rows, got ", grad.size(0));
}

}  // namespace pcperc
