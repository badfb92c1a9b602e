// SPDX-License-Identifier: Apache-2.0
#pragma once
// Geometry of upright boxes in float64, the same bits on host and device: products are never contracted into fused
// multiply-adds, which nvcc would otherwise do.
#include <torch/csrc/stable/tensor.h>

#include <cstdint>

#include "common/check.h"
#include "common/coord_key.h"

namespace pcperc {

// One row of a frames tensor (K, 8) float64: centre, size along heading / across / up, cosine and sine of the yaw.
struct BoxFrame {
  double x, y, z, length, width, height, cos, sin;
};

inline const BoxFrame* check_frames(const Tensor& frames, const char* op, const char* name) {
  check_matrix(frames, op, name);
  check_dtype(frames, ScalarType::Double, op, name);
  STD_TORCH_CHECK(frames.size(1) == 8, op, ": ", name, " must be (K, 8), got ", frames.size(1), " columns");
  return reinterpret_cast<const BoxFrame*>(frames.const_data_ptr<double>());
}

// A float64 matrix of plain points with the given number of columns.
inline const double* check_positions(const Tensor& positions, int64_t columns, const char* op, const char* name) {
  check_matrix(positions, op, name);
  check_dtype(positions, ScalarType::Double, op, name);
  STD_TORCH_CHECK(positions.size(1) == columns, op, ": ", name, " must have ", columns, " columns, got ", positions.size(1));
  return positions.const_data_ptr<double>();
}

// a * b + c * d without contraction.
PCPERC_HOST_DEVICE double dot2(double a, double b, double c, double d) {
#if defined(__CUDA_ARCH__)
  return __dadd_rn(__dmul_rn(a, b), __dmul_rn(c, d));
#else
  return a * b + c * d;
#endif
}

// Faces count as inside. A box with a size of zero or less, or with a NaN, contains nothing.
PCPERC_HOST_DEVICE bool box_contains(const BoxFrame& box, double px, double py, double pz) {
  const double dx = px - box.x, dy = py - box.y, dz = pz - box.z;
  const double along = dot2(dx, box.cos, dy, box.sin), across = dot2(dy, box.cos, -dx, box.sin);
  const double l = 0.5 * box.length, w = 0.5 * box.width, h = 0.5 * box.height;
  return l > 0 && w > 0 && h > 0 && along <= l && along >= -l && across <= w && across >= -w && dz <= h && dz >= -h;
}

struct Polygon {
  double x[8], y[8];  // clipping a quadrilateral by four half-planes gives eight corners at the most
  int size;
};

// The part of a convex polygon where sign * coordinate <= bound, coordinate being x (axis 0) or y (axis 1).
// Sutherland and Hodgman, Reentrant polygon clipping, CACM 17(1), 1974.
PCPERC_HOST_DEVICE Polygon clip(const Polygon& in, int axis, double sign, double bound) {
  Polygon out;
  out.size = 0;
  for (int i = 0; i < in.size; ++i) {
    const int next = i + 1 == in.size ? 0 : i + 1;
    const double from = bound - sign * (axis == 0 ? in.x[i] : in.y[i]);
    const double to = bound - sign * (axis == 0 ? in.x[next] : in.y[next]);
    if (from >= 0 && out.size < 8) {
      out.x[out.size] = in.x[i];
      out.y[out.size++] = in.y[i];
    }
    if (((from > 0 && to < 0) || (from < 0 && to > 0)) && out.size < 8) {
      const double t = from / (from - to);
      const double cut = axis == 0 ? dot2(t, in.y[next] - in.y[i], 1.0, in.y[i]) : dot2(t, in.x[next] - in.x[i], 1.0, in.x[i]);
      out.x[out.size] = axis == 0 ? sign * bound : cut;
      out.y[out.size++] = axis == 0 ? cut : sign * bound;
    }
  }
  return out;
}

// Area shared by two boxes seen from above. All lengths are taken relative to the centre of `a`, so that coordinates far from
// the origin lose nothing beyond their own rounding.
PCPERC_HOST_DEVICE double overlap_area(const BoxFrame& a, const BoxFrame& b) {
  if (!(a.length > 0 && a.width > 0 && b.length > 0 && b.width > 0)) return 0;
  const double dx = b.x - a.x, dy = b.y - a.y;
  const double reach_a = dot2(a.length, a.length, a.width, a.width), reach_b = dot2(b.length, b.length, b.width, b.width);
  // |d|^2 > (r_a + r_b)^2 follows from |d|^2 > 2 (r_a^2 + r_b^2), with r the half diagonals: no square root.
  if (dot2(dx, dx, dy, dy) > 0.5 * (reach_a + reach_b)) return 0;

  const double centre_x = dot2(dx, a.cos, dy, a.sin), centre_y = dot2(dy, a.cos, -dx, a.sin);
  const double cos = dot2(a.cos, b.cos, a.sin, b.sin), sin = dot2(b.sin, a.cos, -b.cos, a.sin);
  const double lx = 0.5 * b.length * cos, ly = 0.5 * b.length * sin, wx = -0.5 * b.width * sin, wy = 0.5 * b.width * cos;
  Polygon polygon;
  polygon.size = 4;
  for (int i = 0; i < 4; ++i) {  // counter-clockwise from front left
    const double l = i == 0 || i == 3 ? 1.0 : -1.0, w = i < 2 ? 1.0 : -1.0;
    polygon.x[i] = centre_x + dot2(l, lx, w, wx);
    polygon.y[i] = centre_y + dot2(l, ly, w, wy);
  }
  polygon = clip(polygon, 0, 1.0, 0.5 * a.length);
  polygon = clip(polygon, 0, -1.0, 0.5 * a.length);
  polygon = clip(polygon, 1, 1.0, 0.5 * a.width);
  polygon = clip(polygon, 1, -1.0, 0.5 * a.width);

  double twice = 0;
  for (int i = 2; i < polygon.size; ++i) {
    twice += dot2(polygon.x[i - 1] - polygon.x[0], polygon.y[i] - polygon.y[0], -(polygon.x[i] - polygon.x[0]),
                  polygon.y[i - 1] - polygon.y[0]);
  }
  const double area = 0.5 * twice, area_a = a.length * a.width, area_b = b.length * b.width;
  const double smaller = area_a < area_b ? area_a : area_b;
  return area > 0 ? (area < smaller ? area : smaller) : 0;
}

// Intersection over union from above, or of the volumes. 0 where either box has no area (volume) or a NaN.
PCPERC_HOST_DEVICE double box_iou(const BoxFrame& a, const BoxFrame& b, bool with_height) {
  double shared = overlap_area(a, b);
  double size_a = a.length * a.width, size_b = b.length * b.width;
  if (with_height) {
    if (!(a.height > 0 && b.height > 0)) return 0;
    const double dz = b.z - a.z, half_a = 0.5 * a.height, half_b = 0.5 * b.height;
    const double top = half_a < dz + half_b ? half_a : dz + half_b, bottom = -half_a > dz - half_b ? -half_a : dz - half_b;
    shared = top > bottom ? shared * (top - bottom) : 0;
    size_a *= a.height;
    size_b *= b.height;
  }
  return shared > 0 ? shared / (size_a + size_b - shared) : 0;
}

}  // namespace pcperc
