// SPDX-License-Identifier: Apache-2.0
#pragma once
// The 2^D corners of a cell, numbered with the last axis fastest.
#include <utility>

#include "common/check.h"
#include "common/coord_key.h"
#include "common/rounded.h"
#include "common/tensors.h"

namespace pcperc {

// 1 for a corner on the upper side of its cell along an axis, else 0.
template <int kDims>
PCPERC_HOST_DEVICE int corner_side(int corner, int axis) {
  return corner >> (kDims - 1 - axis) & 1;
}

// The linear weight of a corner for a point that lies `above` the lowest one, in cells: the product of 1 - distance.
template <int kDims, class T>
PCPERC_HOST_DEVICE T corner_weight(int corner, const T (&above)[kDims]) {
  T weight = 1;
  for (int axis = 0; axis < kDims; ++axis) {
    weight = times(weight, corner_side<kDims>(corner, axis) ? above[axis] : 1 - above[axis]);
  }
  return weight;
}

// What points read at their corners, to be filled in: rows (P, corners) int32, and weights in the dtype of points.
inline std::pair<Tensor, Tensor> empty_corners(const Tensor& points, int64_t corners) {
  return {empty_on(points, {points.size(0), corners}, ScalarType::Int),
          empty_on(points, {points.size(0), corners}, points.scalar_type())};
}

}  // namespace pcperc
