// SPDX-License-Identifier: Apache-2.0
#pragma once
// The messages about rows of a coords tensor, the same on CPU and CUDA. All of them name the first offending row.
#include "common/check.h"
#include "common/coord_key.h"

namespace pcperc {

constexpr int64_t kMaxRows = int64_t{1} << 30;

inline void check_coords(const Tensor& coords, const char* op, const char* name) {
  check_matrix(coords, op, name);
  check_dtype(coords, ScalarType::Int, op, name);
  STD_TORCH_CHECK(coords.size(1) == 4, op, ": ", name, " must be (M, 4), got (", coords.size(0), ", ", coords.size(1), ")");
  STD_TORCH_CHECK(coords.size(0) <= kMaxRows, op, ": ", name, " has more than 2^30 rows: ", coords.size(0));
}

inline std::ostream& operator<<(std::ostream& out, const Coord& c) {
  return out << "[" << c.batch << ", " << c.x << ", " << c.y << ", " << c.z << "]";
}

[[noreturn]] inline void throw_out_of_range(const char* op, const char* name, int64_t row, const Coord& c) {
  value_error(op, ": ", name, " row ", row, " = ", c, " is out of range: the batch index must be in [0, ", kMaxBatch,
              "] and x, y, z in [", kMinCoord, ", ", kMaxCoord, "]");
}

[[noreturn]] inline void throw_duplicate(const char* op, const char* name, int64_t row, const Coord& c) {
  value_error(op, ": ", name, " row ", row, " = ", c, " repeats an earlier row; coordinates must be unique (see unique_coords)");
}

[[noreturn]] inline void throw_output_out_of_range(const char* op, int64_t row, const Coord& c) {
  value_error(op, ": coords row ", row, " = ", c, " makes an output coordinate outside [", kMinCoord, ", ", kMaxCoord, "]");
}

[[noreturn]] inline void throw_bad_neighbor(const char* op, int64_t tap, int64_t out_row, int64_t in_row, int64_t num_inputs) {
  if (in_row >= num_inputs) {
    value_error(op, ": neighbors[", tap, ", ", out_row, "] = ", in_row, " must be less than num_inputs = ", num_inputs);
  }
  value_error(op, ": neighbors[", tap, ", ", out_row, "] = ", in_row,
              " repeats an earlier entry of the tap; an input row feeds one output row under one tap");
}

}  // namespace pcperc
