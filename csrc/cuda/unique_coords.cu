// SPDX-License-Identifier: Apache-2.0
// Sorted unique coordinates, and the coordinates that a convolution reaches in either direction: make keys, radix-sort them,
// keep the first of each run. The rows are those of csrc/cpu/unique_coords.cpp, in the same order.
#include <torch/csrc/stable/library.h>

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#include <cub/device/device_select.cuh>
#include <tuple>
#include <vector>

#include "common/conv_geometry.h"
#include "common/device_errors.cuh"

namespace pcperc {
namespace {

__global__ void make_keys_kernel(const int32_t* coords, KeyLayout layout, int64_t count, CoordKey* keys, int32_t* rows,
                                 ErrorRow* out_of_range) {
  PCPERC_GRID_LOOP(row, count) {
    keys[row] = layout.row_key(coords + row * layout.columns());
    if (keys[row] == kEmptyKey) report_error(out_of_range, row);
    rows[row] = static_cast<int32_t>(row);
  }
}

// heads[i] = 1 where a run of equal keys begins.
__global__ void mark_heads_kernel(const CoordKey* keys, int64_t count, int32_t* heads) {
  PCPERC_GRID_LOOP(i, count) heads[i] = i == 0 || keys[i] != keys[i - 1];
}

__global__ void store_count_kernel(const int32_t* voxel_of, int64_t count, ErrorRow* num_unique) {
  *num_unique = static_cast<ErrorRow>(voxel_of[count - 1]);
}

// voxel_of: inclusive sums of heads, so one more than the index of the run.
__global__ void write_runs_kernel(const CoordKey* keys, const int32_t* rows, const int32_t* voxel_of, int64_t count,
                                  KeyLayout layout, int32_t* unique, int64_t* inverse, int64_t* starts) {
  PCPERC_GRID_LOOP(i, count) {
    const int32_t voxel = voxel_of[i] - 1;
    inverse[rows[i]] = voxel;
    if (i == 0 || keys[i] != keys[i - 1]) {
      layout.write_row(keys[i], unique + voxel * layout.columns());
      starts[voxel] = i;
    }
  }
}

__global__ void write_counts_kernel(const int64_t* starts, int64_t num_unique, int64_t count, int64_t* counts) {
  PCPERC_GRID_LOOP(voxel, num_unique) counts[voxel] = (voxel + 1 < num_unique ? starts[voxel + 1] : count) - starts[voxel];
}

template <class T>
T* data_of(const Tensor& tensor) { return static_cast<T*>(tensor.data_ptr()); }

std::tuple<Tensor, Tensor, Tensor> unique_coords(Tensor coords) {
  constexpr const char* op = "unique_coords";
  const CudaScope scope(coords);
  const cudaStream_t stream = scope.stream();
  coords = torch::stable::contiguous(coords);
  const KeyLayout layout = check_coords(coords, op, "coords");
  const int64_t count = coords.size(0), columns = coords.size(1);
  Tensor inverse = empty_on(coords, {count}, ScalarType::Long);
  if (count == 0) return {empty_on(coords, {0, columns}, ScalarType::Int), inverse, empty_on(coords, {0}, ScalarType::Long)};

  const Tensor keys = empty_on(coords, {2, count}, ScalarType::Long), rows = empty_on(coords, {2, count}, ScalarType::Int);
  const Tensor voxel_of = empty_on(coords, {count}, ScalarType::Int);
  auto *keys_in = data_of<CoordKey>(keys), *sorted = keys_in + count;
  auto *rows_in = data_of<int32_t>(rows), *sorted_rows = rows_in + count;
  const DeviceErrors errors(coords, 1, 1, stream);
  const unsigned grid = grid_size(count);
  make_keys_kernel<<<grid, kThreads, 0, stream>>>(data_of<int32_t>(coords), layout, count, keys_in, rows_in, errors.data());
  PCPERC_LAUNCH_CHECK();
  with_workspace(coords, [&](void* workspace, size_t& bytes) {
    return cub::DeviceRadixSort::SortPairs(workspace, bytes, keys_in, sorted, rows_in, sorted_rows, count, 0, 64, stream);
  });
  mark_heads_kernel<<<grid, kThreads, 0, stream>>>(sorted, count, data_of<int32_t>(voxel_of));
  PCPERC_LAUNCH_CHECK();
  with_workspace(coords, [&](void* workspace, size_t& bytes) {
    return cub::DeviceScan::InclusiveSum(workspace, bytes, data_of<int32_t>(voxel_of), data_of<int32_t>(voxel_of), count, stream);
  });
  store_count_kernel<<<1, 1, 0, stream>>>(data_of<int32_t>(voxel_of), count, errors.data() + 1);
  PCPERC_LAUNCH_CHECK();
  ErrorRow host[2];
  errors.read(host);
  if (host[0] != kNoError) throw_out_of_range(op, "coords", HostRow(coords, host[0], layout, stream));

  const int64_t num_unique = host[1];
  Tensor unique = empty_on(coords, {num_unique, columns}, ScalarType::Int);
  Tensor counts = empty_on(coords, {num_unique}, ScalarType::Long);
  const Tensor starts = empty_on(coords, {num_unique}, ScalarType::Long);
  write_runs_kernel<<<grid, kThreads, 0, stream>>>(sorted, sorted_rows, data_of<int32_t>(voxel_of), count, layout,
                                                   data_of<int32_t>(unique), data_of<int64_t>(inverse),
                                                   data_of<int64_t>(starts));
  PCPERC_LAUNCH_CHECK();
  write_counts_kernel<<<grid_size(num_unique), kThreads, 0, stream>>>(data_of<int64_t>(starts), num_unique, count,
                                                                      data_of<int64_t>(counts));
  PCPERC_LAUNCH_CHECK();
  return {unique, inverse, counts};
}

// One thread an input row: the keys of all that it reaches, the rest of its `slots` keys filled up with kEmptyKey.
template <Direction direction>
__global__ void make_reached_keys_kernel(const int32_t* coords, int64_t count, ConvGeometry geometry, LatticeBounds bounds,
                                         int64_t slots, CoordKey* keys, ErrorRow* errors) {
  PCPERC_GRID_LOOP(row, count) {
    int64_t used = 0;
    const CoordKey key = geometry.layout.row_key(coords + row * geometry.layout.columns());
    if (key == kEmptyKey) {
      report_error(errors, row);
    } else {
      const auto reached = ReachedCoords::from<direction>(key, geometry, bounds);
      if (reached.in_range) {
        reached.write_keys(keys + row * slots);
        used = reached.total;
      } else {
        report_error(errors + 1, row);
      }
    }
    for (; used < slots; ++used) keys[row * slots + used] = kEmptyKey;
  }
}

// The number of distinct keys without kEmptyKey, which sorts last.
__global__ void count_outputs_kernel(const CoordKey* unique, const int64_t* num_unique, ErrorRow* num_outputs) {
  *num_outputs = static_cast<ErrorRow>(*num_unique - (unique[*num_unique - 1] == kEmptyKey));
}

__global__ void write_coords_kernel(const CoordKey* keys, int64_t count, KeyLayout layout, int32_t* coords) {
  PCPERC_GRID_LOOP(i, count) layout.write_row(keys[i], coords + i * layout.columns());
}

template <Direction direction>
Tensor reached_coords(const char* op, Tensor coords, const std::vector<int64_t>& kernel_size,
                      const std::vector<int64_t>& stride, const std::vector<int64_t>& padding,
                      const std::vector<int64_t>& dilation, const std::vector<int64_t>& output_shape) {
  const CudaScope scope(coords);
  const cudaStream_t stream = scope.stream();
  coords = torch::stable::contiguous(coords);
  const KeyLayout layout = check_coords(coords, op, "coords");
  const ConvGeometry geometry = make_geometry(op, layout, kernel_size, stride, padding, dilation);
  const LatticeBounds bounds = make_bounds(op, layout, output_shape);
  const int64_t count = coords.size(0), columns = coords.size(1);
  if (count == 0) return empty_on(coords, {0, columns}, ScalarType::Int);

  const int64_t slots = direction == Direction::kToCoarse ? geometry.max_outputs() : geometry.volume();
  const int64_t num_keys = count * slots;
  const Tensor keys = empty_on(coords, {2, num_keys}, ScalarType::Long), num_unique = empty_on(coords, {1}, ScalarType::Long);
  auto *unsorted = data_of<CoordKey>(keys), *sorted = unsorted + num_keys;
  const DeviceErrors errors(coords, 2, 1, stream);
  make_reached_keys_kernel<direction><<<grid_size(count), kThreads, 0, stream>>>(data_of<int32_t>(coords), count, geometry,
                                                                                 bounds, slots, unsorted, errors.data());
  PCPERC_LAUNCH_CHECK();
  with_workspace(coords, [&](void* workspace, size_t& bytes) {
    return cub::DeviceRadixSort::SortKeys(workspace, bytes, unsorted, sorted, num_keys, 0, 64, stream);
  });
  CoordKey* unique = unsorted;
  with_workspace(coords, [&](void* workspace, size_t& bytes) {
    return cub::DeviceSelect::Unique(workspace, bytes, sorted, unique, data_of<int64_t>(num_unique), num_keys, stream);
  });
  count_outputs_kernel<<<1, 1, 0, stream>>>(unique, data_of<int64_t>(num_unique), errors.data() + 2);
  PCPERC_LAUNCH_CHECK();
  ErrorRow host[3];
  errors.read(host);
  if (host[0] < host[1]) throw_out_of_range(op, "coords", HostRow(coords, host[0], layout, stream));
  if (host[1] != kNoError) throw_output_out_of_range(op, HostRow(coords, host[1], layout, stream));

  const int64_t num_outputs = host[2];
  Tensor result = empty_on(coords, {num_outputs, columns}, ScalarType::Int);
  if (num_outputs == 0) return result;
  write_coords_kernel<<<grid_size(num_outputs), kThreads, 0, stream>>>(unique, num_outputs, layout, data_of<int32_t>(result));
  PCPERC_LAUNCH_CHECK();
  return result;
}

Tensor downsample_coords(Tensor coords, std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                         std::vector<int64_t> padding, std::vector<int64_t> dilation, std::vector<int64_t> output_shape) {
  return reached_coords<Direction::kToCoarse>("downsample_coords", coords, kernel_size, stride, padding, dilation,
                                              output_shape);
}

Tensor upsample_coords(Tensor coords, std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                       std::vector<int64_t> padding, std::vector<int64_t> dilation, std::vector<int64_t> output_shape) {
  return reached_coords<Direction::kToFine>("upsample_coords", coords, kernel_size, stride, padding, dilation, output_shape);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("unique_coords", TORCH_BOX(&unique_coords));
  m.impl("downsample_coords", TORCH_BOX(&downsample_coords));
  m.impl("upsample_coords", TORCH_BOX(&upsample_coords));
}

}  // namespace pcperc
