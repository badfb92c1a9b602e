// SPDX-License-Identifier: Apache-2.0
// The voxels of points in dense grids around their clouds: one thread a point.
#include "dense_grid.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/launch.cuh"

namespace pcperc {
namespace {

template <class T>
__global__ void centre_distances_kernel(CentredClouds<T> clouds, T* distances) {
  PCPERC_GRID_LOOP(p, clouds.num_points) distances[p] = clouds.distance(p);
}

template <class T>
__global__ void grid_voxels_kernel(GridVoxels<T> work) {
  PCPERC_GRID_LOOP(p, work.clouds.num_points) work.find(p);
}

Tensor centre_distances(Tensor points, Tensor index, Tensor centres) {
  check_one_device("centre_distances", {points, index, centres});
  const CudaScope scope(points);
  points = as_contiguous(points), index = as_contiguous(index), centres = as_contiguous(centres);
  check_centred_clouds("centre_distances", points, index, centres);
  const Tensor distances = empty_on(points, {points.size(0), 1}, points.scalar_type());
  if (distances.numel() == 0) return distances;
  dispatch_positions(points.scalar_type(), "centre_distances", [&](auto zero) {
    using T = decltype(zero);
    const CentredClouds<T> clouds(points, index, centres);
    centre_distances_kernel<<<grid_size(clouds.num_points), kThreads, 0, scope.stream()>>>(clouds, data_of<T>(distances));
  });
  PCPERC_LAUNCH_CHECK();
  return distances;
}

std::tuple<Tensor, Tensor, Tensor> grid_voxels(Tensor points, Tensor index, Tensor centres, std::optional<Tensor> radii,
                                               int64_t resolution) {
  check_one_device("grid_voxels", {points, index, centres, radii.value_or(points)});
  const CudaScope scope(points);
  points = as_contiguous(points), index = as_contiguous(index), centres = as_contiguous(centres);
  radii = as_contiguous(radii);
  check_grid_voxels("grid_voxels", points, index, centres, radii, resolution);
  const int64_t count = points.size(0);
  const Tensor voxel = empty_on(points, {count}, ScalarType::Int);
  const std::pair<Tensor, Tensor> found = empty_corners(points, 8);
  if (count == 0) return {voxel, found.first, found.second};
  dispatch_positions(points.scalar_type(), "grid_voxels", [&](auto zero) {
    using T = decltype(zero);
    const GridVoxels<T> work({points, index, centres}, radii, resolution, voxel, found);
    grid_voxels_kernel<<<grid_size(count), kThreads, 0, scope.stream()>>>(work);
  });
  PCPERC_LAUNCH_CHECK();
  return {voxel, found.first, found.second};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("centre_distances", TORCH_BOX(&centre_distances));
  m.impl("grid_voxels", TORCH_BOX(&grid_voxels));
}

}  // namespace pcperc
