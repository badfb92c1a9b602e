// SPDX-License-Identifier: Apache-2.0
#pragma once
// The segments of a weighted gather-sum, as bev_pool takes them: four tensors
//   point  (E,)   int32  index into weight
//   source (E,)   int32  row of the features read
//   starts (S + 1,) int32  entries of segment i are starts[i] .. starts[i + 1]
//   target (S,)   int64  row of the output written; each at most once, so segments never meet
// The same op with the roles of source and target exchanged is the gradient of the features.
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "segment.h"

namespace pcperc {

struct PoolSegments {
  const int32_t *point, *source, *starts;
  const int64_t* target;
  int64_t num_segments, num_entries;

  PCPERC_HOST_DEVICE EntryRange entries(int64_t i) const { return entries_within(starts[i], starts[i + 1], num_entries); }
};

inline PoolSegments check_segments(const Tensor& feats, const std::optional<Tensor>& weight,
                                   const std::vector<Tensor>& segments, const char* op) {
  check_matrix(feats, op, "feats");
  STD_TORCH_CHECK(segments.size() == 4, op, ": segments must be [point, source, starts, target], got ", segments.size(),
                  " tensors");
  check_vector(segments[0], ScalarType::Int, op, "point");
  check_vector(segments[1], ScalarType::Int, op, "source");
  check_vector(segments[2], ScalarType::Int, op, "starts");
  check_vector(segments[3], ScalarType::Long, op, "target");
  const int64_t num_entries = segments[0].numel(), num_segments = segments[3].numel();
  STD_TORCH_CHECK(segments[1].numel() == num_entries && segments[2].numel() == num_segments + 1, op,
                  ": the lengths of the segments' tensors do not fit each other");
  if (weight) {
    check_vector(*weight, feats.scalar_type(), op, "weight");
  }
  return {segments[0].const_data_ptr<int32_t>(), segments[1].const_data_ptr<int32_t>(),
          segments[2].const_data_ptr<int32_t>(), segments[3].const_data_ptr<int64_t>(), num_segments, num_entries};
}

inline void check_weight_grad(const Tensor& grad, const Tensor& feats) {
  check_matrix(feats, "bev_pool_weight_grad", "feats");
  check_dtype(feats, grad.scalar_type(), "bev_pool_weight_grad", "feats");
  STD_TORCH_CHECK(grad.size(1) == feats.size(1), "bev_pool_weight_grad: grad and feats must have the same channels");
}

}  // namespace pcperc
