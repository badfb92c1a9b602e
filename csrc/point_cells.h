// SPDX-License-Identifier: Apache-2.0
#pragma once
// The cells of a lattice around points, the same on CPU and CUDA. Where points want gradients, pcperc/ops/interpolate.py has
// the weights once more, of torch's operators.
//
// Points (P, 1 + D) are [batch, x, ...] in float32 or float64. In cells a point lies at xyz / stride - shift, or at
// floor(xyz) / stride - shift where it is quantized; its cell is the lowest corner of the 2^D whole numbers around it.
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "common/check.h"
#include "common/coord_key.h"
#include "common/dispatch.h"
#include "corners.h"

namespace pcperc {

template <class T, int kDims>
struct PointLattice {
  static constexpr int kColumns = 1 + kDims;
  const T* points;
  int64_t num_points;
  T stride[kDims], shift;
  bool quantized;

  PointLattice(const Tensor& points, const std::vector<int64_t>& stride, double shift, bool quantized)
      : points(points.const_data_ptr<T>()), num_points(points.size(0)), shift(static_cast<T>(shift)), quantized(quantized) {
    for (int axis = 0; axis < kDims; ++axis) this->stride[axis] = static_cast<T>(stride[axis]);
  }

  // Where point p is along an axis, in cells.
  PCPERC_HOST_DEVICE T place(int64_t p, int axis) const {
    const T value = points[p * kColumns + 1 + axis];
    return (quantized ? std::floor(value) : value) / stride[axis] - shift;
  }

  // A row of coords [batch, cell]. Where no cell can hold the point, as it is NaN or out of the range of keys, that is padding;
  // with `everywhere` it is then cut to int32, for who refuses rows that are out of range.
  PCPERC_HOST_DEVICE void write_cell(int64_t p, bool everywhere, int32_t* row) const {
    constexpr KeyLayout layout(kDims);
    T found[kColumns] = {std::floor(points[p * kColumns] + T(0.5))};
    bool exists = found[0] >= 0 && found[0] <= static_cast<T>(layout.max_batch());
    for (int axis = 0; axis < kDims; ++axis) {
      const T cell = found[1 + axis] = std::floor(place(p, axis));
      exists = exists && cell >= static_cast<T>(layout.min_coord()) && cell <= static_cast<T>(layout.max_coord());
    }
    for (int column = 0; column < kColumns; ++column) {
      row[column] = exists || everywhere ? as_int32(found[column]) : column == 0 ? kPaddingBatch : 0;
    }
  }

  // The smallest int32 for NaN. Only values in range are converted: of others C++ leaves the result open.
  PCPERC_HOST_DEVICE static int32_t as_int32(T value) {
    constexpr T limit = 2147483648.0;
    return value < -limit || value != value ? INT32_MIN : value < limit ? static_cast<int32_t>(value) : INT32_MAX;
  }
};

// The corners around points: rows of the voxels found there (P, 2^D) and their weights, last axis fastest.
template <class T, int kDims>
struct CornerWeights {
  static constexpr int kCorners = 1 << kDims;
  PointLattice<T, kDims> lattice;
  const int32_t* neighbors;  // (2^D, P): the voxel at each corner, or -1
  bool renormalize;
  int32_t* rows;
  T* weights;

  CornerWeights(const PointLattice<T, kDims>& lattice, const Tensor& neighbors, bool renormalize,
                const std::pair<Tensor, Tensor>& found)
      : lattice(lattice), neighbors(neighbors.const_data_ptr<int32_t>()), renormalize(renormalize),
        rows(data_of<int32_t>(found.first)), weights(data_of<T>(found.second)) {}

  PCPERC_HOST_DEVICE void weigh(int64_t p) const {
    int32_t cell[1 + kDims];
    lattice.write_cell(p, false, cell);
    T above[kDims];  // from the lowest corner to the point: the weight of the upper side; 0 where there is no cell
    for (int axis = 0; axis < kDims; ++axis) {
      above[axis] = cell[0] == kPaddingBatch ? 0 : lattice.place(p, axis) - static_cast<T>(cell[1 + axis]);
    }
    T weight[kCorners], total = 0;
    PCPERC_DEVICE_UNROLL
    for (int corner = 0; corner < kCorners; ++corner) {
      const int32_t row = neighbors[corner * lattice.num_points + p];
      rows[p * kCorners + corner] = row;
      weight[corner] = renormalize && row < 0 ? 0 : corner_weight(corner, above);
      total = plus(total, weight[corner]);
    }
    const T divisor = renormalize && total > 0 ? total : 1;
    PCPERC_DEVICE_UNROLL
    for (int corner = 0; corner < kCorners; ++corner) weights[p * kCorners + corner] = weight[corner] / divisor;
  }
};

// Call f(zero, dims) with a zero of the C++ type of points and the number of their axes as a type.
template <class F>
void dispatch_points(const Tensor& points, const char* op, const F& f) {
  dispatch_positions(points.scalar_type(), op, [&](auto zero) {
    switch (points.size(1) - 1) {
      case 1: return f(zero, std::integral_constant<int, 1>{});
      case 2: return f(zero, std::integral_constant<int, 2>{});
      case 3: return f(zero, std::integral_constant<int, 3>{});
      default: return f(zero, std::integral_constant<int, 4>{});
    }
  });
}

inline void check_point_cells(const char* op, const Tensor& points, const std::vector<int64_t>& stride) {
  check_matrix(points, op, "points");
  const int64_t dims = points.size(1) - 1;
  STD_TORCH_CHECK(dims >= 1 && dims <= kMaxDims, op, ": points must have 2 to ", 1 + kMaxDims, " columns, got ", 1 + dims);
  STD_TORCH_CHECK(points.size(0) <= INT32_MAX, op, ": at most 2^31 - 1 points, got ", points.size(0));
  STD_TORCH_CHECK(static_cast<int64_t>(stride.size()) == dims, op, ": stride must have ", dims, " values, got ", stride.size());
  for (const int64_t step : stride) STD_TORCH_CHECK(step >= 1, op, ": stride must be >= 1, got ", step);
}

inline void check_corner_weights(const char* op, const Tensor& points, const Tensor& neighbors,
                                 const std::vector<int64_t>& stride) {
  check_point_cells(op, points, stride);
  check_matrix(neighbors, op, "neighbors");
  check_dtype(neighbors, ScalarType::Int, op, "neighbors");
  const int64_t corners = int64_t{1} << stride.size();
  STD_TORCH_CHECK(neighbors.size(0) == corners && neighbors.size(1) == points.size(0), op, ": neighbors must be (", corners,
                  ", ", points.size(0), "), got (", neighbors.size(0), ", ", neighbors.size(1), ")");
}

}  // namespace pcperc
