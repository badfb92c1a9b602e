// SPDX-License-Identifier: Apache-2.0
#pragma once
// Rows grouped by the number of their segment. Sort keys are 0 for a row below all segments, 1 + s for one of segment s, and
// S + 1 for one behind them.
#include <algorithm>
#include <cstdint>

#include "segment.h"

namespace pcperc {

inline void check_make_segments(const Tensor& index, int64_t num_segments) {
  constexpr const char* op = "make_segments";
  STD_TORCH_CHECK(index.dim() == 1 && index.is_contiguous(), op, ": index must be contiguous, 1 dimension");
  STD_TORCH_CHECK(index.scalar_type() == ScalarType::Int || index.scalar_type() == ScalarType::Long, op,
                  ": index must be int32 or int64");
  if (index.numel() >= INT32_MAX) value_error(op, ": at most 2^31 - 2 rows, got ", index.numel());
  if (num_segments < 0 || num_segments >= INT32_MAX) {
    value_error(op, ": num_segments must be from 0 to 2^31 - 2, got ", num_segments);
  }
}

// The number of a segment, -1 below all of them and S behind them.
template <class T>
PCPERC_HOST_DEVICE int32_t clamped_segment(T segment, int64_t num_segments) {
  return static_cast<int32_t>(segment < 0 ? -1 : segment > num_segments ? num_segments : static_cast<int64_t>(segment));
}

}  // namespace pcperc
