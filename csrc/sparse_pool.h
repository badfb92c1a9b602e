// SPDX-License-Identifier: Apache-2.0
#pragma once
// Sizes and checks of the pooling operators, the same on CPU and CUDA. The values of a table are not read before the kernels
// run: kernels take an entry outside the rows it refers to as an absent neighbour, so that nothing waits for the device.
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>

#include "segment.h"

namespace pcperc {

struct PoolSizes {
  int64_t num_in, num_out, volume, channels;
};

inline void check_int_matrix(const Tensor& tensor, const char* op, const char* name) {
  check_matrix(tensor, op, name);
  check_dtype(tensor, ScalarType::Int, op, name);
}

// What reads rows of feats (N, C) through neighbors (K, M).
inline PoolSizes check_pool(const char* op, const Tensor& feats, const Tensor& neighbors) {
  check_matrix(feats, op, "feats");
  check_int_matrix(neighbors, op, "neighbors");
  return {feats.size(0), neighbors.size(1), neighbors.size(0), feats.size(1)};
}

// Divisors (count,), one for each row, or none.
inline const int32_t* check_counts(const char* op, const char* name, const std::optional<Tensor>& counts, int64_t count) {
  if (!counts) return nullptr;
  check_vector(*counts, ScalarType::Int, op, name);
  STD_TORCH_CHECK(counts->numel() == count, op, ": ", name, " must have ", count, " values, got ", counts->numel());
  return counts->const_data_ptr<int32_t>();
}

// What carries values of the rows (M, C) that were a maximum to the N rows they came from, and back.
inline PoolSizes check_max_rows(const char* op, const Tensor& rows, const Tensor& reverse_neighbors) {
  check_int_matrix(rows, op, "rows");
  check_int_matrix(reverse_neighbors, op, "reverse_neighbors");
  return {reverse_neighbors.size(1), rows.size(0), reverse_neighbors.size(0), rows.size(1)};
}

inline void check_feats(const char* op, const Tensor& feats, int64_t rows, int64_t channels) {
  check_matrix(feats, op, "feats");
  STD_TORCH_CHECK(feats.size(0) == rows && feats.size(1) == channels, op, ": feats must be (", rows, ", ", channels,
                  "), got (", feats.size(0), ", ", feats.size(1), ")");
}

// A row that nothing refers to has count 0 and a sum of 0.
PCPERC_HOST_DEVICE int32_t divisor(const int32_t* counts, int64_t row) { return counts[row] > 1 ? counts[row] : 1; }

// torch.max_pool's rule: the first of equal values stays, NaN replaces all. Without a branch, so that a loop over channels
// uses vector registers.
template <class A>
PCPERC_HOST_DEVICE bool replaces_max(A value, A best) {
  return (value > best) | (value != value);
}

}  // namespace pcperc
