// SPDX-License-Identifier: Apache-2.0
// Which box holds a point: one thread a point (a pair for the mask). Frames are (K, 8) float64 rows of BoxFrame.
#include <torch/csrc/stable/library.h>

#include "box_iou.h"
#include "common/launch.cuh"

namespace pcperc {
namespace {

__global__ void points_in_boxes_kernel(const double* p, const BoxFrame* box, int64_t n, int64_t k, int32_t* index) {
  PCPERC_GRID_LOOP(i, n) {
    int32_t found = -1;
    for (int64_t j = 0; j < k && found < 0; ++j) {
      if (box_contains(box[j], p[3 * i], p[3 * i + 1], p[3 * i + 2])) found = static_cast<int32_t>(j);
    }
    index[i] = found;
  }
}

__global__ void points_in_boxes_mask_kernel(const double* p, const BoxFrame* box, int64_t n, int64_t k, bool* mask) {
  PCPERC_GRID_LOOP(pair, n * k) {
    const int64_t i = pair / k;
    mask[pair] = box_contains(box[pair % k], p[3 * i], p[3 * i + 1], p[3 * i + 2]);
  }
}

Tensor points_in_boxes(const Tensor& points, const Tensor& frames) {
  const double* p = check_positions(points, 3, "points_in_boxes", "points");
  const BoxFrame* box = check_frames(frames, "points_in_boxes", "frames");
  check_one_device("points_in_boxes", {points, frames});
  const int64_t n = points.size(0), k = frames.size(0);
  const CudaScope scope(points);
  const Tensor out = empty_on(points, {n}, ScalarType::Int);
  if (n == 0) return out;
  points_in_boxes_kernel<<<grid_size(n), kThreads, 0, scope.stream()>>>(p, box, n, k, out.mutable_data_ptr<int32_t>());
  PCPERC_LAUNCH_CHECK();
  return out;
}

Tensor points_in_boxes_mask(const Tensor& points, const Tensor& frames) {
  const double* p = check_positions(points, 3, "points_in_boxes_mask", "points");
  const BoxFrame* box = check_frames(frames, "points_in_boxes_mask", "frames");
  check_one_device("points_in_boxes_mask", {points, frames});
  const int64_t n = points.size(0), k = frames.size(0);
  const CudaScope scope(points);
  const Tensor out = empty_on(points, {n, k}, ScalarType::Bool);
  if (n * k == 0) return out;
  points_in_boxes_mask_kernel<<<grid_size(n * k), kThreads, 0, scope.stream()>>>(p, box, n, k, out.mutable_data_ptr<bool>());
  PCPERC_LAUNCH_CHECK();
  return out;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("points_in_boxes", TORCH_BOX(&pcperc::points_in_boxes));
  m.impl("points_in_boxes_mask", TORCH_BOX(&pcperc::points_in_boxes_mask));
}
