// SPDX-License-Identifier: Apache-2.0
// The cells of a lattice around points, and the weights of their corners.
#include "point_cells.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/parallel.h"
#include "common/tensors.h"

namespace pcperc {
namespace {

constexpr int64_t kGrain = 4096;

Tensor point_cells(Tensor points, std::vector<int64_t> stride, double shift, bool quantized, bool everywhere) {
  points = as_contiguous(points);
  check_point_cells("point_cells", points, stride);
  const Tensor cells = empty_on(points, {points.size(0), points.size(1)}, ScalarType::Int);
  dispatch_points(points, "point_cells", [&](auto zero, auto dims) {
    const PointLattice<decltype(zero), decltype(dims)::value> lattice(points, stride, shift, quantized);
    auto* const rows = data_of<int32_t>(cells);
    parallel_rows(lattice.num_points, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) lattice.write_cell(p, everywhere, rows + p * lattice.kColumns);
    });
  });
  return cells;
}

std::tuple<Tensor, Tensor> corner_weights(Tensor points, Tensor neighbors, std::vector<int64_t> stride, double shift,
                                          bool quantized, bool renormalize) {
  points = as_contiguous(points), neighbors = as_contiguous(neighbors);
  check_corner_weights("corner_weights", points, neighbors, stride);
  const Tensor rows = empty_on(points, {points.size(0), neighbors.size(0)}, ScalarType::Int);
  const Tensor weights = empty_on(points, {points.size(0), neighbors.size(0)}, points.scalar_type());
  dispatch_points(points, "corner_weights", [&](auto zero, auto dims) {
    using T = decltype(zero);
    const CornerWeights<T, decltype(dims)::value> work{{points, stride, shift, quantized}, neighbors.const_data_ptr<int32_t>(),
                                                       renormalize, data_of<int32_t>(rows), data_of<T>(weights)};
    parallel_rows(points.size(0), kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) work.weigh(p);
    });
  });
  return {rows, weights};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("point_cells", TORCH_BOX(&point_cells));
  m.impl("corner_weights", TORCH_BOX(&corner_weights));
}

}  // namespace pcperc
