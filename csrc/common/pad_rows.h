// SPDX-License-Identifier: Apache-2.0
#pragma once
// What pad_rows asks of its arguments, on CPU and CUDA.
#include "common/check.h"
#include "common/coord_key.h"

namespace pcperc {

constexpr const char* kPadRows = "pad_rows";

// Returns the bytes of feats; coords and feats are contiguous.
inline int64_t check_pad_rows(const Tensor& coords, const Tensor& feats, const Tensor& to_coords, const Tensor& to_feats) {
  check_matrix(coords, kPadRows, "coords");
  check_matrix(feats, kPadRows, "feats");
  check_matrix(to_coords, kPadRows, "to_coords");
  check_matrix(to_feats, kPadRows, "to_feats");
  check_dtype(coords, ScalarType::Int, kPadRows, "coords");
  check_dtype(to_coords, ScalarType::Int, kPadRows, "to_coords");
  check_dtype(to_feats, feats.scalar_type(), kPadRows, "to_feats");
  int64_t size = 0;
  switch (feats.scalar_type()) {
    case ScalarType::Half:
    case ScalarType::BFloat16: size = 2; break;
    case ScalarType::Float: size = 4; break;
    case ScalarType::Double: size = 8; break;
    default: STD_TORCH_CHECK(false, kPadRows, ": feats must be floating point");
  }
  STD_TORCH_CHECK(feats.size(0) == coords.size(0) && to_feats.size(0) == to_coords.size(0), kPadRows,
                  ": coords and feats must have the same rows");
  STD_TORCH_CHECK(to_coords.size(1) == coords.size(1) && to_feats.size(1) == feats.size(1), kPadRows,
                  ": to_coords and to_feats must have the columns of coords and feats");
  STD_TORCH_CHECK(to_coords.size(0) >= coords.size(0), kPadRows, ": to_coords must have at least ", coords.size(0),
                  " rows, got ", to_coords.size(0));
  return feats.numel() * size;
}

}  // namespace pcperc
