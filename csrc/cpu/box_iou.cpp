// SPDX-License-Identifier: Apache-2.0
// Intersection over union of upright boxes, and greedy non-maximum suppression of rows that are sorted best first.
#include "box_iou.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "common/parallel.h"

namespace pcperc {
namespace {

Tensor box_iou_matrix(const Tensor& frames_a, const Tensor& frames_b, bool with_height) {
  const BoxFrame* a = check_frames(frames_a, "box_iou", "frames_a");
  const BoxFrame* b = check_frames(frames_b, "box_iou", "frames_b");
  const int64_t n = frames_a.size(0), m = frames_b.size(0);
  Tensor out = torch::stable::new_empty(frames_a, {n, m});
  double* iou = out.mutable_data_ptr<double>();
  parallel_rows(n * m, 1024, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) iou[i] = box_iou(a[i / m], b[i % m], with_height);
  });
  return out;
}

// keep[i] is true where no kept row before i suppresses row i.
template <class F>
Tensor suppress(const Tensor& rows, const F& suppresses) {
  const int64_t k = rows.size(0);
  Tensor out = torch::stable::new_empty(rows, {k}, ScalarType::Bool);
  bool* keep = out.mutable_data_ptr<bool>();
  for (int64_t i = 0; i < k; ++i) keep[i] = true;
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = i + 1; keep[i] && j < k; ++j) {
      if (keep[j] && suppresses(i, j)) keep[j] = false;
    }
  }
  return out;
}

Tensor nms_bev(const Tensor& frames, double iou_threshold) {
  const BoxFrame* box = check_frames(frames, "nms_bev", "frames");
  return suppress(frames, [&](int64_t i, int64_t j) { return box_iou(box[i], box[j], false) > iou_threshold; });
}

Tensor circle_nms(const Tensor& centers, double min_distance) {
  const double* c = check_positions(centers, 2, "circle_nms", "centers");
  const double limit = min_distance * min_distance;
  return suppress(centers, [&](int64_t i, int64_t j) {
    const double dx = c[2 * j] - c[2 * i], dy = c[2 * j + 1] - c[2 * i + 1];
    return dot2(dx, dx, dy, dy) < limit;
  });
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("box_iou", TORCH_BOX(&pcperc::box_iou_matrix));
  m.impl("nms_bev", TORCH_BOX(&pcperc::nms_bev));
  m.impl("circle_nms", TORCH_BOX(&pcperc::circle_nms));
}
