// SPDX-License-Identifier: Apache-2.0
// Intersection over union of upright boxes, and greedy non-maximum suppression of rows that are sorted best first.
#include "box_iou.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "common/check.h"
#include "common/parallel.h"

namespace pcperc {
namespace {

const BoxFrame* check_frames(const Tensor& frames, const char* op, const char* name) {
  check_matrix(frames, op, name);
  check_dtype(frames, ScalarType::Double, op, name);
  STD_TORCH_CHECK(frames.size(1) == 8, op, ": ", name, " must be (K, 8), got ", frames.size(1), " columns");
  return reinterpret_cast<const BoxFrame*>(frames.const_data_ptr<double>());
}

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
  check_matrix(centers, "circle_nms", "centers");
  check_dtype(centers, ScalarType::Double, "circle_nms", "centers");
  STD_TORCH_CHECK(centers.size(1) == 2, "circle_nms: centers must be (K, 2), got ", centers.size(1), " columns");
  const double* c = centers.const_data_ptr<double>();
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
