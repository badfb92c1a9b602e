// SPDX-License-Identifier: Apache-2.0
// Which box holds a point. Frames are (K, 8) float64 rows of BoxFrame.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "box_iou.h"
#include "common/parallel.h"

namespace pcperc {
namespace {

Tensor points_in_boxes(const Tensor& points, const Tensor& frames) {
  const double* p = check_positions(points, 3, "points_in_boxes", "points");
  const BoxFrame* box = check_frames(frames, "points_in_boxes", "frames");
  const int64_t n = points.size(0), k = frames.size(0);
  Tensor out = torch::stable::new_empty(points, {n}, ScalarType::Int);
  int32_t* index = out.mutable_data_ptr<int32_t>();
  parallel_rows(n, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      index[i] = -1;
      for (int64_t j = 0; j < k && index[i] < 0; ++j) {
        if (box_contains(box[j], p[3 * i], p[3 * i + 1], p[3 * i + 2])) index[i] = static_cast<int32_t>(j);
      }
    }
  });
  return out;
}

Tensor points_in_boxes_mask(const Tensor& points, const Tensor& frames) {
  const double* p = check_positions(points, 3, "points_in_boxes_mask", "points");
  const BoxFrame* box = check_frames(frames, "points_in_boxes_mask", "frames");
  const int64_t n = points.size(0), k = frames.size(0);
  Tensor out = torch::stable::new_empty(points, {n, k}, ScalarType::Bool);
  bool* mask = out.mutable_data_ptr<bool>();
  parallel_rows(n, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t j = 0; j < k; ++j) mask[i * k + j] = box_contains(box[j], p[3 * i], p[3 * i + 1], p[3 * i + 2]);
    }
  });
  return out;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("points_in_boxes", TORCH_BOX(&pcperc::points_in_boxes));
  m.impl("points_in_boxes_mask", TORCH_BOX(&pcperc::points_in_boxes_mask));
}
