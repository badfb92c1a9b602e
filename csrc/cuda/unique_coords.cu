// SPDX-License-Identifier: Apache-2.0
// Sorted unique coordinates, and the coordinates that a convolution reaches in either direction. The rows are those of
// csrc/cpu/unique_coords.cpp, in the same order.
#include <torch/csrc/stable/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "common/conv_geometry.h"
#include "common/device_errors.cuh"
#include "cuda/distinct_keys.cuh"

namespace pcperc {
namespace {

// slot_of_row[row]: the slot of its key, or -1 without one.
__global__ void __launch_bounds__(kThreadsTogether)
    insert_rows_kernel(ClearedMemory memory, const int32_t* coords, KeyLayout layout, int64_t count, DeviceKeySet set,
                       KeySetState* state, int32_t* slot_of_row) {
  memory.clear();
  KeyExtent extent = KeyExtent::of_nothing();
  PCPERC_GRID_LOOP(row, count) {
    const CoordKey key = layout.row_key(coords + row * layout.columns());
    if (layout.is_bad(key, coords + row * layout.columns())) report_error(&state->bad_input, row);
    slot_of_row[row] = key == kEmptyKey ? -1 : static_cast<int32_t>(set.insert(key));
    if (key != kEmptyKey) extent.include(layout, key);
  }
  merge_extent(extent, &state->extent);
}

// One thread an input row: all that it reaches.
template <Direction direction>
__global__ void __launch_bounds__(kThreadsTogether)
    insert_reached_kernel(ClearedMemory memory, const int32_t* coords, int64_t count, ConvGeometry geometry,
                          LatticeBounds bounds, DeviceKeySet set, KeySetState* state) {
  memory.clear();
  const KeyLayout layout = geometry.layout;
  KeyExtent extent = KeyExtent::of_nothing();
  PCPERC_GRID_LOOP(row, count) {
    const CoordKey key = layout.row_key(coords + row * layout.columns());
    if (key == kEmptyKey) {
      if (layout.is_bad(key, coords + row * layout.columns())) report_error(&state->bad_input, row);
      continue;
    }
    const auto reached = ReachedCoords::from<direction>(key, geometry, bounds);
    if (!reached.in_range) {
      report_error(&state->bad_output, row);
    } else if (reached.total > 0) {
      reached.visit_keys([&](CoordKey output) { set.insert(output); });
      extent.include(layout, reached.first);
      extent.include(layout, reached.last());
    }
  }
  merge_extent(extent, &state->extent);
}

struct UniqueRows {
  Tensor coords, inverse, counts;
  std::optional<Tensor> incomplete;  // with a capacity
};

// Whether rows are missing, where there is a capacity.
std::optional<Tensor> make_flag(const Tensor& like, std::optional<int64_t> capacity) {
  return capacity ? std::optional(empty_on(like, {}, ScalarType::Bool)) : std::nullopt;
}

UniqueRows find_unique(Tensor coords, std::optional<int64_t> capacity) {
  constexpr const char* op = "unique_coords";
  const CudaScope scope(coords);
  const cudaStream_t stream = scope.stream();
  coords = as_contiguous(coords);
  const KeyLayout layout = check_coords(coords, op, "coords");
  const int64_t count = coords.size(0);
  const Tensor slot_of_row = empty_on(coords, {count}, ScalarType::Int);
  DistinctKeys keys(coords, op, layout, count, capacity, true, stream);
  keys.insert(insert_rows_kernel, count, data_of<int32_t>(coords), layout, count, keys.set(), keys.state(),
              data_of<int32_t>(slot_of_row));
  const KeySetState found = keys.list();
  if (found.bad_input != kNoError) throw_out_of_range(op, "coords", HostRow(coords, found.bad_input, layout, stream));

  UniqueRows result{empty_on(coords, {keys.num_rows(), coords.size(1)}, ScalarType::Int),
                    empty_on(coords, {count}, ScalarType::Long), empty_on(coords, {keys.num_rows()}, ScalarType::Long),
                    make_flag(coords, capacity)};
  keys.write(result.coords, capacity ? data_of<bool>(*result.incomplete) : nullptr,
             {count, data_of<int32_t>(slot_of_row)},
             InverseAndCounts{data_of<int64_t>(result.inverse), data_of<int64_t>(result.counts)});
  return result;
}

std::tuple<Tensor, Tensor, Tensor> unique_coords(Tensor coords) {
  const UniqueRows rows = find_unique(coords, std::nullopt);
  return {rows.coords, rows.inverse, rows.counts};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> unique_coords_padded(Tensor coords, int64_t capacity) {
  const UniqueRows rows = find_unique(coords, capacity);
  return {rows.coords, rows.inverse, rows.counts, *rows.incomplete};
}

struct Geometry {
  std::vector<int64_t> kernel_size, stride, padding, dilation, output_shape;
};

// The coordinates and, with a capacity, whether some are missing.
template <Direction direction>
std::tuple<Tensor, std::optional<Tensor>> find_reached(const char* op, Tensor coords, const Geometry& values,
                                                       std::optional<int64_t> capacity) {
  const CudaScope scope(coords);
  const cudaStream_t stream = scope.stream();
  coords = as_contiguous(coords);
  const KeyLayout layout = check_coords(coords, op, "coords");
  const ConvGeometry geometry =
      make_geometry(op, layout, values.kernel_size, values.stride, values.padding, values.dilation);
  const LatticeBounds bounds = make_bounds(op, layout, values.output_shape);
  const int64_t count = coords.size(0);
  const int64_t reached_at_most = count * (direction == Direction::kToCoarse ? geometry.max_outputs() : geometry.volume());
  DistinctKeys keys(coords, op, layout, reached_at_most, capacity, false, stream);
  keys.insert(insert_reached_kernel<direction>, count, data_of<int32_t>(coords), count, geometry, bounds, keys.set(),
              keys.state());
  const KeySetState found = keys.list();
  if (found.bad_input < found.bad_output) throw_out_of_range(op, "coords", HostRow(coords, found.bad_input, layout, stream));
  if (found.bad_output != kNoError) throw_output_out_of_range(op, HostRow(coords, found.bad_output, layout, stream));

  Tensor result = empty_on(coords, {keys.num_rows(), coords.size(1)}, ScalarType::Int);
  std::optional<Tensor> incomplete = make_flag(coords, capacity);
  keys.write(result, capacity ? data_of<bool>(*incomplete) : nullptr);
  return {result, incomplete};
}

Tensor downsample_coords(Tensor coords, std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                         std::vector<int64_t> padding, std::vector<int64_t> dilation, std::vector<int64_t> output_shape) {
  const Geometry geometry{kernel_size, stride, padding, dilation, output_shape};
  return std::get<0>(find_reached<Direction::kToCoarse>("downsample_coords", coords, geometry, std::nullopt));
}

std::tuple<Tensor, Tensor> downsample_coords_padded(Tensor coords, std::vector<int64_t> kernel_size,
                                                    std::vector<int64_t> stride, std::vector<int64_t> padding,
                                                    std::vector<int64_t> dilation, std::vector<int64_t> output_shape,
                                                    int64_t capacity) {
  const Geometry geometry{kernel_size, stride, padding, dilation, output_shape};
  const auto [found, incomplete] = find_reached<Direction::kToCoarse>("downsample_coords", coords, geometry, capacity);
  return {found, *incomplete};
}

Tensor upsample_coords(Tensor coords, std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                       std::vector<int64_t> padding, std::vector<int64_t> dilation, std::vector<int64_t> output_shape) {
  const Geometry geometry{kernel_size, stride, padding, dilation, output_shape};
  return std::get<0>(find_reached<Direction::kToFine>("upsample_coords", coords, geometry, std::nullopt));
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("unique_coords", TORCH_BOX(&unique_coords));
  m.impl("unique_coords_padded", TORCH_BOX(&unique_coords_padded));
  m.impl("downsample_coords", TORCH_BOX(&downsample_coords));
  m.impl("downsample_coords_padded", TORCH_BOX(&downsample_coords_padded));
  m.impl("upsample_coords", TORCH_BOX(&upsample_coords));
}

}  // namespace pcperc
