// SPDX-License-Identifier: Apache-2.0
// The cells of a lattice around points, and the weights of their corners: one thread a point.
#include "point_cells.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/launch.cuh"

namespace pcperc {
namespace {

template <class Lattice>
__global__ void point_cells_kernel(Lattice lattice, bool everywhere, int32_t* rows) {
  PCPERC_GRID_LOOP(p, lattice.num_points) lattice.write_cell(p, everywhere, rows + p * Lattice::kColumns);
}

template <class Work>
__global__ void corner_weights_kernel(Work work) {
  PCPERC_GRID_LOOP(p, work.lattice.num_points) work.weigh(p);
}

Tensor point_cells(Tensor points, std::vector<int64_t> stride, double shift, bool quantized, bool everywhere) {
  const CudaScope scope(points);
  points = as_contiguous(points);
  check_point_cells("point_cells", points, stride);
  const Tensor cells = empty_on(points, {points.size(0), points.size(1)}, ScalarType::Int);
  if (cells.numel() == 0) return cells;
  dispatch_points(points, "point_cells", [&](auto zero, auto dims) {
    const PointLattice<decltype(zero), decltype(dims)::value> lattice(points, stride, shift, quantized);
    point_cells_kernel<<<grid_size(points.size(0)), kThreads, 0, scope.stream()>>>(lattice, everywhere,
                                                                                  data_of<int32_t>(cells));
  });
  PCPERC_LAUNCH_CHECK();
  return cells;
}

std::tuple<Tensor, Tensor> corner_weights(Tensor points, Tensor neighbors, std::vector<int64_t> stride, double shift,
                                          bool quantized, bool renormalize) {
  check_one_device("corner_weights", {points, neighbors});
  const CudaScope scope(points);
  points = as_contiguous(points), neighbors = as_contiguous(neighbors);
  check_corner_weights("corner_weights", points, neighbors, stride);
  const std::pair<Tensor, Tensor> found = empty_corners(points, neighbors.size(0));
  if (points.size(0) == 0) return found;
  dispatch_points(points, "corner_weights", [&](auto zero, auto dims) {
    const PointLattice<decltype(zero), decltype(dims)::value> lattice(points, stride, shift, quantized);
    const CornerWeights work(lattice, neighbors, renormalize, found);
    corner_weights_kernel<<<grid_size(points.size(0)), kThreads, 0, scope.stream()>>>(work);
  });
  PCPERC_LAUNCH_CHECK();
  return found;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("point_cells", TORCH_BOX(&point_cells));
  m.impl("corner_weights", TORCH_BOX(&corner_weights));
}

}  // namespace pcperc
