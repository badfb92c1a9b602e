// SPDX-License-Identifier: Apache-2.0
// A step down whose windows do not overlap: each input feeds one output at most. Its sort of the outputs then knows both tables
// of the kernel map as well, and nothing is looked up: 4 launches instead of 9.
#include <torch/csrc/stable/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "common/conv_geometry.h"
#include "common/device_errors.cuh"
#include "cuda/distinct_keys.cuh"

namespace pcperc {
namespace {

constexpr const char* kOp = "downsample_with_map";

// slot_of_row[row]: the slot of the output that it feeds, or -1 where it feeds none.
__global__ void __launch_bounds__(kThreadsTogether)
    insert_fed_kernel(ClearedMemory memory, const int32_t* coords, int64_t count, ConvGeometry geometry, LatticeBounds bounds,
                      DeviceKeySet set, KeySetState* state, int32_t* slot_of_row) {
  memory.clear();
  const KeyLayout layout = geometry.layout;
  KeyExtent extent = KeyExtent::of_nothing();
  PCPERC_GRID_LOOP(row, count) {
    const CoordKey key = layout.row_key(coords + row * layout.columns());
    int32_t slot = -1;
    if (key == kEmptyKey) {
      if (layout.is_bad(key, coords + row * layout.columns())) report_error(&state->bad_input, row);
    } else {
      const auto reached = ReachedCoords::from<Direction::kToCoarse>(key, geometry, bounds);
      if (!reached.in_range) {
        report_error(&state->bad_output, row);
      } else if (reached.total > 0) {
        slot = static_cast<int32_t>(set.insert(reached.first));
        extent.include(layout, reached.first);
      }
    }
    slot_of_row[row] = slot;
  }
  merge_extent(extent, &state->extent);
}

// The tables beside the sorted outputs.
struct MapTables {
  ConvGeometry geometry;
  const int32_t* coords;  // of the inputs
  int64_t num_inputs, num_outputs;
  int32_t *neighbors, *reverse;  // (K, num_outputs), (K, num_inputs)

  // The tap under which an input feeds its output; dilation is 1.
  __device__ int32_t tap_of(const int32_t* row) const {
    int32_t tap = 0;
    PCPERC_DEVICE_UNROLL
    for (int axis = 0; axis < kMaxDims; ++axis) {
      if (axis >= geometry.layout.dims) continue;
      const int32_t shifted = row[1 + axis] + geometry.padding[axis], stride = geometry.stride[axis];
      const int32_t rest = shifted % stride;
      tap = tap * geometry.kernel[axis] + (rest < 0 ? rest + stride : rest);
    }
    return tap;
  }

  __device__ void clear(int64_t output) const {
    for (int32_t tap = 0; tap < geometry.volume(); ++tap) neighbors[tap * num_outputs + output] = -1;
  }
  __device__ void write(const SourceRows& inputs, const int32_t* row_of_slot) const {
    inputs.visit(row_of_slot, [&](int64_t input, int32_t output) {
      const int32_t fed = output < 0 ? -1 : tap_of(coords + input * geometry.layout.columns());
      for (int32_t tap = 0; tap < geometry.volume(); ++tap) reverse[tap * num_inputs + input] = tap == fed ? output : -1;
      if (output >= 0) neighbors[fed * num_outputs + output] = static_cast<int32_t>(input);
    });
  }
};

struct Step {
  Tensor coords, neighbors, reverse;
  std::optional<Tensor> incomplete;  // with a capacity
};

Step step_down(Tensor coords, const std::vector<int64_t>& kernel_size, const std::vector<int64_t>& stride,
               const std::vector<int64_t>& padding, const std::vector<int64_t>& output_shape, std::optional<int64_t> capacity) {
  const CudaScope scope(coords);
  const cudaStream_t stream = scope.stream();
  coords = as_contiguous(coords);
  const KeyLayout layout = check_coords(coords, kOp, "coords");
  const std::vector<int64_t> dilation(layout.dims, 1);
  const ConvGeometry geometry = make_geometry(kOp, layout, kernel_size, stride, padding, dilation);
  STD_TORCH_CHECK(geometry.max_outputs() == 1, kOp, ": windows must not overlap, kernel_size is larger than stride");
  const LatticeBounds bounds = make_bounds(kOp, layout, output_shape);
  const int64_t count = coords.size(0), volume = geometry.volume();
  const Tensor slot_of_row = empty_on(coords, {count}, ScalarType::Int);
  DistinctKeys keys(coords, kOp, layout, count, capacity, true, stream);
  keys.insert(insert_fed_kernel, count, data_of<int32_t>(coords), count, geometry, bounds, keys.set(), keys.state(),
              data_of<int32_t>(slot_of_row));
  const KeySetState found = keys.list();
  if (found.bad_input < found.bad_output) throw_out_of_range(kOp, "coords", HostRow(coords, found.bad_input, layout, stream));
  if (found.bad_output != kNoError) throw_output_out_of_range(kOp, HostRow(coords, found.bad_output, layout, stream));

  const int64_t num_outputs = keys.num_rows();
  Step step{empty_on(coords, {num_outputs, coords.size(1)}, ScalarType::Int),
            empty_on(coords, {volume, num_outputs}, ScalarType::Int), empty_on(coords, {volume, count}, ScalarType::Int),
            capacity ? std::optional(empty_on(coords, {}, ScalarType::Bool)) : std::nullopt};
  const MapTables tables{geometry, data_of<int32_t>(coords), count, num_outputs, data_of<int32_t>(step.neighbors),
                         data_of<int32_t>(step.reverse)};
  keys.write(step.coords, capacity ? data_of<bool>(*step.incomplete) : nullptr, {count, data_of<int32_t>(slot_of_row)}, tables);
  return step;
}

std::tuple<Tensor, Tensor, Tensor> downsample_with_map(Tensor coords, std::vector<int64_t> kernel_size,
                                                       std::vector<int64_t> stride, std::vector<int64_t> padding,
                                                       std::vector<int64_t> output_shape) {
  const Step step = step_down(coords, kernel_size, stride, padding, output_shape, std::nullopt);
  return {step.coords, step.neighbors, step.reverse};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> downsample_with_map_padded(Tensor coords, std::vector<int64_t> kernel_size,
                                                                      std::vector<int64_t> stride,
                                                                      std::vector<int64_t> padding,
                                                                      std::vector<int64_t> output_shape, int64_t capacity) {
  const Step step = step_down(coords, kernel_size, stride, padding, output_shape, capacity);
  return {step.coords, step.neighbors, step.reverse, *step.incomplete};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("downsample_with_map", TORCH_BOX(&downsample_with_map));
  m.impl("downsample_with_map_padded", TORCH_BOX(&downsample_with_map_padded));
}

}  // namespace pcperc
