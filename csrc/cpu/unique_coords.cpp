// SPDX-License-Identifier: Apache-2.0
// Sorted unique coordinates, and the coordinates that a convolution reaches in either direction.
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

const int32_t* coords_data(const Tensor& coords) { return static_cast<const int32_t*>(coords.data_ptr()); }

Tensor new_coords(const Tensor& like, int64_t rows) {
  return torch::stable::new_empty(like, {rows, like.size(1)}, ScalarType::Int);
}

std::vector<KeyRow> sorted_keys(const int32_t* coords, int64_t count, KeyLayout layout) {
  std::vector<KeyRow> items(count);
  std::atomic<int64_t> bad{kNoRow};
  parallel_rows(count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      items[row] = {layout.row_key(coords + row * layout.columns()), static_cast<int32_t>(row)};
      if (items[row].key == kEmptyKey) return atomic_min(bad, row);
    }
  });
  if (bad != kNoRow) throw_out_of_range("unique_coords", "coords", {bad, coords + bad * layout.columns(), layout});
  radix_sort(items);
  return items;
}

std::tuple<Tensor, Tensor, Tensor> unique_coords(Tensor coords) {
  coords = torch::stable::contiguous(coords);
  const KeyLayout layout = check_coords(coords, "unique_coords", "coords");
  const std::vector<KeyRow> items = sorted_keys(coords_data(coords), coords.size(0), layout);
  std::vector<int64_t> starts;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i == 0 || items[i].key != items[i - 1].key) starts.push_back(i);
  }
  const int64_t num_unique = starts.size();
  starts.push_back(items.size());
  Tensor unique = new_coords(coords, num_unique);
  Tensor inverse = torch::stable::new_empty(coords, {coords.size(0)}, ScalarType::Long);
  Tensor counts = torch::stable::new_empty(coords, {num_unique}, ScalarType::Long);
  auto* unique_data = static_cast<int32_t*>(unique.data_ptr());
  auto* inverse_data = static_cast<int64_t*>(inverse.data_ptr());
  auto* counts_data = static_cast<int64_t*>(counts.data_ptr());
  parallel_rows(num_unique, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t voxel = begin; voxel < end; ++voxel) {
      layout.write_row(items[starts[voxel]].key, unique_data + voxel * layout.columns());
      counts_data[voxel] = starts[voxel + 1] - starts[voxel];
      for (int64_t i = starts[voxel]; i < starts[voxel + 1]; ++i) inverse_data[items[i].row] = voxel;
    }
  });
  return {unique, inverse, counts};
}

// The distinct coordinates that the rows of `coords` reach within the bounds, sorted by key.
template <Direction direction>
Tensor reached_coords(const char* op, Tensor coords, const std::vector<int64_t>& kernel_size, const std::vector<int64_t>& stride,
                      const std::vector<int64_t>& padding, const std::vector<int64_t>& dilation,
                      const std::vector<int64_t>& output_shape) {
  coords = torch::stable::contiguous(coords);
  const KeyLayout layout = check_coords(coords, op, "coords");
  const ConvGeometry geometry = make_geometry(op, layout, kernel_size, stride, padding, dilation);
  const LatticeBounds bounds = make_bounds(op, layout, output_shape);
  std::vector<uint64_t> keys;
  for (int64_t row = 0; row < coords.size(0); ++row) {
    const CoordRow printed{row, coords_data(coords) + row * layout.columns(), layout};
    const CoordKey key = layout.row_key(printed.values);
    if (key == kEmptyKey) throw_out_of_range(op, "coords", printed);
    const auto reached = ReachedCoords::from<direction>(key, geometry, bounds);
    if (!reached.in_range) throw_output_out_of_range(op, printed);
    for (int64_t i = 0; i < reached.count; ++i) keys.push_back(reached.key_at(key, layout, i));
  }
  radix_sort(keys);
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  Tensor result = new_coords(coords, keys.size());
  auto* out = static_cast<int32_t*>(result.data_ptr());
  for (size_t i = 0; i < keys.size(); ++i) layout.write_row(keys[i], out + i * layout.columns());
  return result;
}

Tensor downsample_coords(Tensor coords, std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                         std::vector<int64_t> padding, std::vector<int64_t> dilation, std::vector<int64_t> output_shape) {
  return reached_coords<Direction::kToCoarse>("downsample_coords", coords, kernel_size, stride, padding, dilation, output_shape);
}

Tensor upsample_coords(Tensor coords, std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                       std::vector<int64_t> padding, std::vector<int64_t> dilation, std::vector<int64_t> output_shape) {
  return reached_coords<Direction::kToFine>("upsample_coords", coords, kernel_size, stride, padding, dilation, output_shape);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) {
  m.impl("unique_coords", TORCH_BOX(&unique_coords));
  m.impl("downsample_coords", TORCH_BOX(&downsample_coords));
  m.impl("upsample_coords", TORCH_BOX(&upsample_coords));
}

}  // namespace pcperc
