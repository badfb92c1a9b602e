// SPDX-License-Identifier: Apache-2.0
#pragma once
// Means of segments of few rows, such as the points of each voxel, the same on CPU and CUDA.
#include "segment.h"

namespace pcperc {

// A sum in order, by parts of kPart values: what rounding takes from a long one grows with the parts, not with the values.
template <class A>
class PartedSum {
 public:
  PCPERC_HOST_DEVICE void add(A value) {
    part_ += value;
    if (++count_ == kPart) total_ += part_, part_ = 0, count_ = 0;
  }
  PCPERC_HOST_DEVICE A value() const { return total_ + part_; }

 private:
  static constexpr int32_t kPart = 256;
  A total_ = 0, part_ = 0;
  int32_t count_ = 0;
};

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
