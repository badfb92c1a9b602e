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
  const std::pair<Tensor, Tensor> found = empty_corners(points, neighbors.size(0));
  dispatch_points(points, "corner_weights", [&](auto zero, auto dims) {
    const PointLattice<decltype(zero), decltype(dims)::value> lattice(points, stride, shift, quantized);
    const CornerWeights work(lattice, neighbors, renormalize, found);
    parallel_rows(points.size(0), kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) work.weigh(p);
    });
  });
  return found;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("point_cells", TORCH_BOX(&point_cells));
  m.impl("corner_weights", TORCH_BOX(&corner_weights));
}

}  // namespace pcperc
