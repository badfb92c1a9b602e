// SPDX-License-Identifier: Apache-2.0
#pragma once
// The messages about rows of a coords tensor, the same on CPU and CUDA. All of them name the first offending row.
#include "common/check.h"
#include "common/coord_key.h"

namespace pcperc {

constexpr int64_t kMaxRows = int64_t{1} << 30;

// Check what the kernels rely on, and say how the rows are packed.
inline KeyLayout check_coords(const Tensor& coords, const char* op, const char* name) {
  check_matrix(coords, op, name);
  check_dtype(coords, ScalarType::Int, op, name);
  STD_TORCH_CHECK(coords.size(1) >= 2 && coords.size(1) <= 1 + kMaxDims, op, ": ", name, " must be (M, 1 + D) with D = 1 to ",
                  kMaxDims, ", got (", coords.size(0), ", ", coords.size(1), ")");
  STD_TORCH_CHECK(coords.size(0) <= kMaxRows, op, ": ", name, " has more than 2^30 rows: ", coords.size(0));
  return KeyLayout(coords.size(1) - 1);
}

inline void check_same_dims(const char* op, const Tensor& in_coords, const Tensor& out_coords) {
  STD_TORCH_CHECK(in_coords.size(1) == out_coords.size(1), op, ": out_coords must have ", in_coords.size(1),
                  " columns like in_coords, got ", out_coords.size(1));
}

inline void check_table(const Tensor& neighbors, int64_t num_inputs, const char* op) {
  check_matrix(neighbors, op, "neighbors");
  check_dtype(neighbors, ScalarType::Int, op, "neighbors");
  STD_TORCH_CHECK(neighbors.size(1) <= kMaxRows, op, ": neighbors has more than 2^30 columns: ", neighbors.size(1));
  STD_TORCH_CHECK(num_inputs >= 0 && num_inputs <= kMaxRows, op, ": num_inputs must be in [0, 2^30], got ", num_inputs);
}

// A row to be printed.
struct CoordRow {
  int64_t index;
  const int32_t* values;
  KeyLayout layout;
};

inline std::ostream& operator<<(std::ostream& out, const CoordRow& row) {
  out << "row " << row.index << " = [";
  for (int column = 0; column < row.layout.columns(); ++column) out << (column ? ", " : "") << row.values[column];
  return out << "]";
}

[[noreturn]] inline void throw_out_of_range(const char* op, const char* name, const CoordRow& row) {
  value_error(op, ": ", name, " ", row, " is out of range: the batch index must be in [0, ", row.layout.max_batch(),
              "] and coordinates in [", row.layout.min_coord(), ", ", row.layout.max_coord(), "]");
}

[[noreturn]] inline void throw_duplicate(const char* op, const char* name, const CoordRow& row) {
  value_error(op, ": ", name, " ", row, " repeats an earlier row; coordinates must be unique (see unique_coords)");
}

[[noreturn]] inline void throw_output_out_of_range(const char* op, const CoordRow& row) {
  value_error(op, ": coords ", row, " makes an output coordinate outside [", row.layout.min_coord(), ", ",
              row.layout.max_coord(), "]");
}

[[noreturn]] inline void throw_bad_neighbor(const char* op, int64_t tap, int64_t out_row, int64_t in_row, int64_t num_inputs) {
  if (in_row >= num_inputs) {
    value_error(op, ": neighbors[", tap, ", ", out_row, "] = ", in_row, " must be less than num_inputs = ", num_inputs);
  }
  value_error(op, ": neighbors[", tap, ", ", out_row, "] = ", in_row,
              " repeats an earlier entry of the tap; an input row feeds one output row under one tap");
}

}  // namespace pcperc
