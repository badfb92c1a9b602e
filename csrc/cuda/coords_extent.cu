// SPDX-License-Identifier: Apache-2.0
// The lowest and the highest value of each column of coords. A tensor's bounds are looked at before anything else runs, so that
// launches are all the time it takes: blocks write what they found to the host's memory, which adds it up.
#include <torch/csrc/stable/library.h>

#include <vector>

#include "common/coord_key.h"
#include "common/launch.cuh"
#include "cuda/host_buffer.h"

namespace pcperc {
namespace {

constexpr int kRowsPerBlock = 4 * kThreads, kMaxBlocks = 256;

// found[block] = the lowest values, then the highest ones, kColumns each, of the rows of a block; a block has at least one row.
template <int kColumns>
__global__ void extent_kernel(const int32_t* __restrict__ coords, int64_t count, int32_t* __restrict__ found) {
  __shared__ int32_t low[kColumns], high[kColumns];
  if (threadIdx.x < kColumns) {
    low[threadIdx.x] = INT32_MAX;
    high[threadIdx.x] = INT32_MIN;
  }
  __syncthreads();
  int32_t lowest[kColumns], highest[kColumns];
#pragma unroll
  for (int column = 0; column < kColumns; ++column) {
    lowest[column] = INT32_MAX;
    highest[column] = INT32_MIN;
  }
  PCPERC_GRID_LOOP(row, count) {
#pragma unroll
    for (int column = 0; column < kColumns; ++column) {
      const int32_t value = coords[row * kColumns + column];
      lowest[column] = min(lowest[column], value);
      highest[column] = max(highest[column], value);
    }
  }
#pragma unroll
  for (int column = 0; column < kColumns; ++column) {
    const int32_t low_of_warp = __reduce_min_sync(0xffffffff, lowest[column]);
    const int32_t high_of_warp = __reduce_max_sync(0xffffffff, highest[column]);
    if (threadIdx.x % 32 == 0) {
      atomicMin(low + column, low_of_warp);
      atomicMax(high + column, high_of_warp);
    }
  }
  __syncthreads();
  if (threadIdx.x < kColumns) {
    int32_t* const to = found + int64_t{blockIdx.x} * 2 * kColumns;
    to[threadIdx.x] = low[threadIdx.x];
    to[kColumns + threadIdx.x] = high[threadIdx.x];
  }
}

std::vector<int64_t> coords_extent(Tensor coords) {
  constexpr const char* op = "coords_extent";
  const CudaScope scope(coords);
  coords = as_contiguous(coords);
  check_matrix(coords, op, "coords");
  check_dtype(coords, ScalarType::Int, op, "coords");
  const int64_t rows = coords.size(0), columns = coords.size(1);
  STD_TORCH_CHECK(columns >= 2 && columns <= 1 + kMaxDims, op, ": coords must have 2 to 5 columns, got ", columns);
  std::vector<int64_t> extent(2 * columns, INT32_MAX);
  std::fill(extent.begin() + columns, extent.end(), INT32_MIN);
  if (rows == 0) return extent;

  constexpr decltype(&extent_kernel<2>) kernels[] = {extent_kernel<2>, extent_kernel<3>, extent_kernel<4>, extent_kernel<5>};
  static_assert(kMaxBlocks * 2 * (1 + kMaxDims) * sizeof(int32_t) <= HostBuffer::kBytes, "a place for each block");
  const unsigned blocks = std::min<unsigned>(grid_size(rows, kRowsPerBlock), kMaxBlocks);
  const HostBuffer buffer;
  auto* const found = buffer.data<int32_t>();
  kernels[columns - 2]<<<blocks, kThreads, 0, scope.stream()>>>(static_cast<const int32_t*>(coords.data_ptr()), rows, found);
  PCPERC_LAUNCH_CHECK();
  PCPERC_CUDA_CHECK(cudaStreamSynchronize(scope.stream()));
  for (int64_t i = 0; i < 2 * columns * blocks; ++i) {
    int64_t& value = extent[i % (2 * columns)];
    value = i % (2 * columns) < columns ? std::min<int64_t>(value, found[i]) : std::max<int64_t>(value, found[i]);
  }
  return extent;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) { m.impl("coords_extent", TORCH_BOX(&coords_extent)); }

}  // namespace pcperc
