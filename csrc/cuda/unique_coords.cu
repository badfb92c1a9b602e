// SPDX-License-Identifier: Apache-2.0
// Sorted unique coordinates, and the output coordinates of a strided convolution: make keys, radix-sort them, keep the first
// of each run. The rows are those of csrc/cpu/unique_coords.cpp, in the same order.
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

__global__ void make_keys_kernel(const Coord* coords, int64_t count, CoordKey* keys, int32_t* rows, ErrorRow* out_of_range) {
  PCPERC_GRID_LOOP(row, count) {
    const bool good = coord_in_range(coords[row]);
    if (!good) report_error(out_of_range, row);
    keys[row] = good ? make_key(coords[row]) : kEmptyKey;
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
                                  Coord* unique, int64_t* inverse, int64_t* starts) {
  PCPERC_GRID_LOOP(i, count) {
    const int32_t voxel = voxel_of[i] - 1;
    inverse[rows[i]] = voxel;
    if (i == 0 || keys[i] != keys[i - 1]) {
      unique[voxel] = key_to_coord(keys[i]);
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
  check_coords(coords, op, "coords");
  const int64_t count = coords.size(0);
  Tensor inverse = empty_on(coords, {count}, ScalarType::Long);
  if (count == 0) return {empty_on(coords, {0, 4}, ScalarType::Int), inverse, empty_on(coords, {0}, ScalarType::Long)};

  const Tensor keys = empty_on(coords, {2, count}, ScalarType::Long), rows = empty_on(coords, {2, count}, ScalarType::Int);
  const Tensor voxel_of = empty_on(coords, {count}, ScalarType::Int);
  auto *keys_in = data_of<CoordKey>(keys), *sorted = keys_in + count;
  auto *rows_in = data_of<int32_t>(rows), *sorted_rows = rows_in + count;
  const DeviceErrors errors(coords, 1, 1, stream);
  const unsigned grid = grid_size(count);
  make_keys_kernel<<<grid, kThreads, 0, stream>>>(data_of<Coord>(coords), count, keys_in, rows_in, errors.data());
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
  if (host[0] != kNoError) throw_out_of_range(op, "coords", host[0], read_coord(coords, host[0], stream));

  const int64_t num_unique = host[1];
  Tensor unique = empty_on(coords, {num_unique, 4}, ScalarType::Int), counts = empty_on(coords, {num_unique}, ScalarType::Long);
  const Tensor starts = empty_on(coords, {num_unique}, ScalarType::Long);
  write_runs_kernel<<<grid, kThreads, 0, stream>>>(sorted, sorted_rows, data_of<int32_t>(voxel_of), count,
                                                   data_of<Coord>(unique), data_of<int64_t>(inverse), data_of<int64_t>(starts));
  PCPERC_LAUNCH_CHECK();
  write_counts_kernel<<<grid_size(num_unique), kThreads, 0, stream>>>(data_of<int64_t>(starts), num_unique, count,
                                                                      data_of<int64_t>(counts));
  PCPERC_LAUNCH_CHECK();
  return {unique, inverse, counts};
}

// One thread an input row: the outputs that its taps feed, the rest of its `slots` keys filled up with kEmptyKey.
__global__ void make_output_keys_kernel(const Coord* coords, int64_t count, ConvGeometry geometry, OutputLimits limits,
                                        int64_t slots, CoordKey* keys, ErrorRow* errors) {
  PCPERC_GRID_LOOP(row, count) {
    const Coord in = coords[row];
    int64_t used = 0;
    const bool good = coord_in_range(in);
    if (!good) report_error(errors, row);
    for (int32_t tx = 0; good && tx < geometry.kernel[0]; ++tx) {
      int64_t x, y, z;
      if (!geometry.coarse(0, in.x, tx, x) || limits.drops(0, x)) continue;
      for (int32_t ty = 0; ty < geometry.kernel[1]; ++ty) {
        if (!geometry.coarse(1, in.y, ty, y) || limits.drops(1, y)) continue;
        for (int32_t tz = 0; tz < geometry.kernel[2]; ++tz) {
          if (!geometry.coarse(2, in.z, tz, z) || limits.drops(2, z)) continue;
          if (!axis_in_range(x) || !axis_in_range(y) || !axis_in_range(z)) {
            report_error(errors + 1, row);
          } else {
            keys[row * slots + used++] =
                make_key({in.batch, static_cast<int32_t>(x), static_cast<int32_t>(y), static_cast<int32_t>(z)});
          }
        }
      }
    }
    for (; used < slots; ++used) keys[row * slots + used] = kEmptyKey;
  }
}

// The number of distinct keys without kEmptyKey, which sorts last.
__global__ void count_outputs_kernel(const CoordKey* unique, const int64_t* num_unique, ErrorRow* num_outputs) {
  *num_outputs = static_cast<ErrorRow>(*num_unique - (unique[*num_unique - 1] == kEmptyKey));
}

__global__ void write_coords_kernel(const CoordKey* keys, int64_t count, Coord* coords) {
  PCPERC_GRID_LOOP(i, count) coords[i] = key_to_coord(keys[i]);
}

Tensor downsample_coords(Tensor coords, std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                         std::vector<int64_t> padding, std::vector<int64_t> dilation, std::vector<int64_t> output_shape) {
  constexpr const char* op = "downsample_coords";
  const CudaScope scope(coords);
  const cudaStream_t stream = scope.stream();
  coords = torch::stable::contiguous(coords);
  check_coords(coords, op, "coords");
  const ConvGeometry geometry = make_geometry(op, kernel_size, stride, padding, dilation);
  const OutputLimits limits = make_output_limits(op, output_shape);
  const int64_t count = coords.size(0);
  if (count == 0) return empty_on(coords, {0, 4}, ScalarType::Int);

  const int64_t slots = geometry.max_outputs(0) * geometry.max_outputs(1) * geometry.max_outputs(2);
  const int64_t num_keys = count * slots;
  const Tensor keys = empty_on(coords, {2, num_keys}, ScalarType::Long), num_unique = empty_on(coords, {1}, ScalarType::Long);
  auto *unsorted = data_of<CoordKey>(keys), *sorted = unsorted + num_keys;
  const DeviceErrors errors(coords, 2, 1, stream);
  make_output_keys_kernel<<<grid_size(count), kThreads, 0, stream>>>(data_of<Coord>(coords), count, geometry, limits, slots,
                                                                     unsorted, errors.data());
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
  if (host[0] < host[1]) throw_out_of_range(op, "coords", host[0], read_coord(coords, host[0], stream));
  if (host[1] != kNoError) throw_output_out_of_range(op, host[1], read_coord(coords, host[1], stream));

  const int64_t num_outputs = host[2];
  Tensor result = empty_on(coords, {num_outputs, 4}, ScalarType::Int);
  if (num_outputs == 0) return result;
  write_coords_kernel<<<grid_size(num_outputs), kThreads, 0, stream>>>(unique, num_outputs, data_of<Coord>(result));
  PCPERC_LAUNCH_CHECK();
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("unique_coords", TORCH_BOX(&unique_coords));
  m.impl("downsample_coords", TORCH_BOX(&downsample_coords));
}

}  // namespace pcperc
