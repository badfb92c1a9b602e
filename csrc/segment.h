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

}  // namespace pcperc
