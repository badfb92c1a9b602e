// SPDX-License-Identifier: Apache-2.0
// The voxels of points in dense grids around their clouds.
#include "dense_grid.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/parallel.h"

namespace pcperc {
namespace {

constexpr int64_t kGrain = 4096;

Tensor centre_distances(Tensor points, Tensor index, Tensor centres) {
  points = as_contiguous(points), index = as_contiguous(index), centres = as_contiguous(centres);
  check_centred_clouds("centre_distances", points, index, centres);
  const Tensor distances = empty_on(points, {points.size(0), 1}, points.scalar_type());
  dispatch_positions(points.scalar_type(), "centre_distances", [&](auto zero) {
    using T = decltype(zero);
    const CentredClouds<T> clouds(points, index, centres);
    auto* const to = data_of<T>(distances);
    parallel_rows(clouds.num_points, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) to[p] = clouds.distance(p);
    });
  });
  return distances;
}

std::tuple<Tensor, Tensor, Tensor> grid_voxels(Tensor points, Tensor index, Tensor centres, std::optional<Tensor> radii,
                                               int64_t resolution) {
  points = as_contiguous(points), index = as_contiguous(index), centres = as_contiguous(centres);
  radii = as_contiguous(radii);
  check_grid_voxels("grid_voxels", points, index, centres, radii, resolution);
  const int64_t count = points.size(0);
  const Tensor voxel = empty_on(points, {count}, ScalarType::Int);
  const std::pair<Tensor, Tensor> found = empty_corners(points, 8);
  dispatch_positions(points.scalar_type(), "grid_voxels", [&](auto zero) {
    using T = decltype(zero);
    const GridVoxels<T> work({points, index, centres}, radii, resolution, voxel, found);
    parallel_rows(count, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) work.find(p);
    });
  });
  return {voxel, found.first, found.second};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("centre_distances", TORCH_BOX(&centre_distances));
  m.impl("grid_voxels", TORCH_BOX(&grid_voxels));
}

}  // namespace pcperc
