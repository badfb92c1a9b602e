// SPDX-License-Identifier: Apache-2.0
// Sorted unique coordinates, and the output coordinates of a strided convolution.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <limits>
#include <tuple>
#include <vector>

#include "common/conv_geometry.h"
#include "common/coord_errors.h"
#include "common/parallel.h"
#include "common/radix_sort.h"

namespace pcperc {
namespace {

constexpr int64_t kGrain = 4096;
constexpr int64_t kNoRow = std::numeric_limits<int64_t>::max();

const Coord* coords_data(const Tensor& coords) { return static_cast<const Coord*>(coords.data_ptr()); }

Tensor new_coords(const Tensor& like, int64_t rows) {
  return torch::stable::new_empty(like, {rows, 4}, ScalarType::Int);
}

std::vector<KeyRow> sorted_keys(const Coord* coords, int64_t count) {
  std::vector<KeyRow> items(count);
  std::atomic<int64_t> bad{kNoRow};
  parallel_rows(count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      if (!coord_in_range(coords[row])) return atomic_min(bad, row);
      items[row] = {make_key(coords[row]), static_cast<int32_t>(row)};
    }
  });
  if (bad != kNoRow) throw_out_of_range("unique_coords", "coords", bad, coords[bad]);
  radix_sort(items);
  return items;
}

std::tuple<Tensor, Tensor, Tensor> unique_coords(Tensor coords) {
  coords = torch::stable::contiguous(coords);
  check_coords(coords, "unique_coords", "coords");
  const std::vector<KeyRow> items = sorted_keys(coords_data(coords), coords.size(0));
  std::vector<int64_t> starts;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i == 0 || items[i].key != items[i - 1].key) starts.push_back(i);
  }
  const int64_t num_unique = starts.size();
  starts.push_back(items.size());
  Tensor unique = new_coords(coords, num_unique);
  Tensor inverse = torch::stable::new_empty(coords, {coords.size(0)}, ScalarType::Long);
  Tensor counts = torch::stable::new_empty(coords, {num_unique}, ScalarType::Long);
  auto* unique_data = static_cast<Coord*>(unique.data_ptr());
  auto* inverse_data = static_cast<int64_t*>(inverse.data_ptr());
  auto* counts_data = static_cast<int64_t*>(counts.data_ptr());
  parallel_rows(num_unique, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t voxel = begin; voxel < end; ++voxel) {
      unique_data[voxel] = key_to_coord(items[starts[voxel]].key);
      counts_data[voxel] = starts[voxel + 1] - starts[voxel];
      for (int64_t i = starts[voxel]; i < starts[voxel + 1]; ++i) inverse_data[items[i].row] = voxel;
    }
  });
  return {unique, inverse, counts};
}

// The outputs along one axis that some tap feeds from `fine`.
void axis_outputs(const ConvGeometry& geometry, const OutputLimits& limits, int axis, int32_t fine, std::vector<int64_t>& outputs) {
  outputs.clear();
  for (int32_t tap = 0; tap < geometry.kernel[axis]; ++tap) {
    int64_t coarse;
    if (!geometry.coarse(axis, fine, tap, coarse) || limits.drops(axis, coarse)) continue;
    outputs.push_back(coarse);
  }
}

// Append the keys of all outputs with these coordinates; false where one leaves the range of a key.
bool append_keys(int32_t batch, const std::vector<int64_t>& x, const std::vector<int64_t>& y, const std::vector<int64_t>& z,
                 std::vector<uint64_t>& keys) {
  for (int64_t cx : x) {
    for (int64_t cy : y) {
      for (int64_t cz : z) {
        if (!axis_in_range(cx) || !axis_in_range(cy) || !axis_in_range(cz)) return false;
        keys.push_back(make_key({batch, static_cast<int32_t>(cx), static_cast<int32_t>(cy), static_cast<int32_t>(cz)}));
      }
    }
  }
  return true;
}

Tensor downsample_coords(Tensor coords, std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                         std::vector<int64_t> padding, std::vector<int64_t> dilation, std::vector<int64_t> output_shape) {
  constexpr const char* op = "downsample_coords";
  coords = torch::stable::contiguous(coords);
  check_coords(coords, op, "coords");
  const ConvGeometry geometry = make_geometry(op, kernel_size, stride, padding, dilation);
  const OutputLimits limits = make_output_limits(op, output_shape);
  const Coord* in = coords_data(coords);
  std::vector<uint64_t> keys;
  std::vector<int64_t> x, y, z;
  for (int64_t row = 0; row < coords.size(0); ++row) {
    if (!coord_in_range(in[row])) throw_out_of_range(op, "coords", row, in[row]);
    axis_outputs(geometry, limits, 0, in[row].x, x);
    axis_outputs(geometry, limits, 1, in[row].y, y);
    axis_outputs(geometry, limits, 2, in[row].z, z);
    if (!append_keys(in[row].batch, x, y, z, keys)) throw_output_out_of_range(op, row, in[row]);
  }
  radix_sort(keys);
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  Tensor result = new_coords(coords, keys.size());
  auto* out = static_cast<Coord*>(result.data_ptr());
  for (size_t i = 0; i < keys.size(); ++i) out[i] = key_to_coord(keys[i]);
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("unique_coords", TORCH_BOX(&unique_coords));
  m.impl("downsample_coords", TORCH_BOX(&downsample_coords));
}

}  // namespace pcperc
