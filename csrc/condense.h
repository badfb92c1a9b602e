// SPDX-License-Identifier: Apache-2.0
#pragma once
// Condensation of points, the same on CPU and CUDA: in the order of a cloud's entries each point that is still free and whose
// beta is above min_beta becomes a centre and takes all free points nearer than the radius. Entries come by falling beta.
#include "neighbors.h"

namespace pcperc {

constexpr int64_t kMostCondensedColumns = 128;  // coordinates, which a block of a GPU holds of 32 points at a time

inline void check_condense(const Tensor& points, const Tensor& beta, const Tensor& order, const Tensor& starts, double radius) {
  const char* op = "condense";
  check_matrix(points, op, "points");
  STD_TORCH_CHECK(points.size(1) >= 1 && points.size(1) <= kMostCondensedColumns, op, ": points must have 1 to ",
                  kMostCondensedColumns, " columns, got ", points.size(1));
  check_clouds(op, points, order, starts, points.size(1));
  check_vector(beta, points.scalar_type(), op, "beta");
  STD_TORCH_CHECK(beta.numel() == points.size(0), op, ": beta must have ", points.size(0), " values, got ", beta.numel());
  STD_TORCH_CHECK(radius > 0, op, ": radius must be > 0, got ", radius);
}

// The work on all clouds.
template <class T>
struct Condensation {
  Clouds<T> clouds;
  const T* beta;
  int64_t columns;
  T limit, min_beta;  // of the squared distance; of a centre
  int32_t* centre;    // of each row, -1 where it is free

  Condensation(const Tensor& points, const Tensor& beta, const Tensor& order, const Tensor& starts, double radius,
               double min_beta, const Tensor& centre)
      : clouds(clouds_of<T>(points, order, starts)),
        beta(beta.const_data_ptr<T>()),
        columns(points.size(1)),
        limit(static_cast<T>(radius * radius)),
        min_beta(static_cast<T>(min_beta)),
        centre(centre.mutable_data_ptr<int32_t>()) {}
};

}  // namespace pcperc
