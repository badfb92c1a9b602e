// SPDX-License-Identifier: Apache-2.0
// The kernel map of a convolution as a neighbour table, and the table of the opposite direction: the tables of
// csrc/cpu/kernel_map.cpp. The rows of a cloud are hashed by blocks of voxels, then looked up (cuda/find_neighbors.cuh).
#include <torch/csrc/stable/library.h>

#include <optional>
#include <vector>

#include "common/conv_geometry.h"
#include "common/device_errors.cuh"
#include "common/hash_table.cuh"
#include "cuda/cleared_memory.cuh"
#include "cuda/find_neighbors.cuh"

namespace pcperc {
namespace {

enum MapError { kInOutOfRange, kInDuplicate, kOutOutOfRange, kNumMapErrors };

__global__ void __launch_bounds__(kThreadsTogether)
    insert_kernel(ClearedMemory memory, const int32_t* coords, KeyLayout layout, int64_t count, DeviceVoxelBlocks voxels,
                  bool check, ErrorRow* errors) {
  memory.clear();
  PCPERC_GRID_LOOP(row, count) {
    const CoordKey key = layout.row_key(coords + row * layout.columns());
    if (key == kEmptyKey) {
      if (layout.is_bad(key, coords + row * layout.columns())) report_error(errors + kInOutOfRange, row);
      continue;
    }
    // As unsigned, -1 is the largest value: the smallest row of a voxel stays.
    auto* cell = reinterpret_cast<unsigned*>(voxels.row_of(layout, key));
    if (!check) {
      atomicMin(cell, static_cast<unsigned>(row));  // whose result nothing waits for
      continue;
    }
    // Of two rows with one key, whichever comes second sees the other: the larger of the two is the offending one.
    const auto other = static_cast<int32_t>(atomicMin(cell, static_cast<unsigned>(row)));
    if (other != -1) report_error(errors + kInDuplicate, max(other, static_cast<int32_t>(row)));
  }
}

void throw_map_error(const ErrorRow* host, const Tensor& in_coords, const Tensor& out_coords, KeyLayout layout,
                     cudaStream_t stream) {
  constexpr const char* op = "build_kernel_map";
  const ErrorRow range = host[kInOutOfRange], duplicate = host[kInDuplicate], out = host[kOutOutOfRange];
  if (range != kNoError) throw_out_of_range(op, "in_coords", HostRow(in_coords, range, layout, stream));
  if (duplicate != kNoError) throw_duplicate(op, "in_coords", HostRow(in_coords, duplicate, layout, stream));
  if (out != kNoError) throw_out_of_range(op, "out_coords", HostRow(out_coords, out, layout, stream));
}

Tensor build_kernel_map(Tensor in_coords, Tensor out_coords, std::vector<int64_t> kernel_size, std::vector<int64_t> stride,
                        std::vector<int64_t> padding, std::vector<int64_t> dilation, bool check) {
  constexpr const char* op = "build_kernel_map";
  const CudaScope scope(in_coords);
  const cudaStream_t stream = scope.stream();
  in_coords = as_contiguous(in_coords);
  out_coords = as_contiguous(out_coords);
  const KeyLayout layout = check_coords(in_coords, op, "in_coords");
  check_coords(out_coords, op, "out_coords");
  check_same_dims(op, in_coords, out_coords);
  check_one_device(op, {in_coords, out_coords});
  const ConvGeometry geometry = make_geometry(op, layout, kernel_size, stride, padding, dilation);
  const int64_t num_in = in_coords.size(0), num_out = out_coords.size(0), volume = geometry.volume();
  const auto* in = static_cast<const int32_t*>(in_coords.data_ptr());
  const auto* out = static_cast<const int32_t*>(out_coords.data_ptr());
  Tensor result = empty_on(in_coords, {volume, num_out}, ScalarType::Int);
  auto* neighbors = static_cast<int32_t*>(result.data_ptr());

  // Errors, keys and rows in one piece of memory, all -1 before.
  const int64_t capacity = DeviceKeySet::capacity_for(num_in), error_bytes = kNumMapErrors * sizeof(ErrorRow);
  const int64_t key_bytes = (error_bytes + capacity * sizeof(CoordKey) + 31) / 32 * 32;  // so that rows fill sectors of 32
  const Tensor memory = empty_on(in_coords, {key_bytes + capacity * 8 * static_cast<int64_t>(sizeof(int32_t))}, ScalarType::Byte);
  auto* bytes = static_cast<char*>(memory.data_ptr());
  auto* errors = reinterpret_cast<ErrorRow*>(bytes);
  const DeviceVoxelBlocks voxels{{reinterpret_cast<CoordKey*>(bytes + error_bytes), static_cast<uint32_t>(capacity)},
                                 reinterpret_cast<int32_t*>(bytes + key_bytes)};
  launch_cleared(insert_kernel, ClearedMemory{bytes, memory.numel()}, num_in, stream, in, layout, num_in, voxels, check, errors);
  if (num_out > 0) {
    find_neighbors(voxels, geometry, out, num_out, neighbors, errors + kOutOutOfRange, stream);
    PCPERC_LAUNCH_CHECK();
  }
  if (!check) return result;
  ErrorRow host[kNumMapErrors];
  copy_to_host(host, errors, kNumMapErrors, stream);
  throw_map_error(host, in_coords, out_coords, layout, stream);
  return result;
}

// `reverse` holds -1 before: as unsigned the largest value, so that atomicMin keeps the smallest output row, and whichever
// of two rows comes second sees the other. bad_entry may be null.
__global__ void reverse_kernel(const int32_t* neighbors, int64_t volume, int64_t num_out, int64_t num_inputs, int32_t* reverse,
                               ErrorRow* bad_entry) {
  for (int64_t tap = blockIdx.y; tap < volume; tap += gridDim.y) {
    PCPERC_GRID_LOOP(m, num_out) {
      const int64_t n = neighbors[tap * num_out + m];
      if (n < 0) continue;
      if (n >= num_inputs) {
        if (bad_entry) report_error(bad_entry, tap * num_out + m);
        continue;
      }
      const auto other = static_cast<int32_t>(
          atomicMin(reinterpret_cast<unsigned*>(reverse + tap * num_inputs + n), static_cast<unsigned>(m)));
      if (other != -1 && bad_entry) report_error(bad_entry, tap * num_out + max(static_cast<int64_t>(other), m));
    }
  }
}

Tensor reverse_kernel_map(Tensor neighbors, int64_t num_inputs, bool check) {
  constexpr const char* op = "reverse_kernel_map";
  const CudaScope scope(neighbors);
  const cudaStream_t stream = scope.stream();
  neighbors = as_contiguous(neighbors);
  check_table(neighbors, num_inputs, op);
  const int64_t volume = neighbors.size(0), num_out = neighbors.size(1);
  Tensor result = empty_on(neighbors, {volume, num_inputs}, ScalarType::Int);
  auto* reverse = static_cast<int32_t*>(result.data_ptr());
  const auto* forward = static_cast<const int32_t*>(neighbors.data_ptr());
  if (volume * num_inputs > 0) {
    PCPERC_CUDA_CHECK(cudaMemsetAsync(reverse, 0xff, volume * num_inputs * sizeof(int32_t), stream));
  }
  if (volume * num_out == 0) return result;
  std::optional<DeviceErrors> errors;
  if (check) errors.emplace(neighbors, 1, 0, stream);
  const dim3 grid(grid_size(num_out), static_cast<unsigned>(std::min(volume, kMaxKernelVolume)));
  reverse_kernel<<<grid, kThreads, 0, stream>>>(forward, volume, num_out, num_inputs, reverse, errors ? errors->data() : nullptr);
  PCPERC_LAUNCH_CHECK();
  if (!check) return result;
  ErrorRow bad;
  errors->read(&bad);
  if (bad != kNoError) {
    int32_t in_row;
    copy_to_host(&in_row, forward + bad, 1, stream);
    throw_bad_neighbor(op, bad / num_out, bad % num_out, in_row, num_inputs);
  }
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("build_kernel_map", TORCH_BOX(&build_kernel_map));
  m.impl("reverse_kernel_map", TORCH_BOX(&reverse_kernel_map));
}

}  // namespace pcperc
