// SPDX-License-Identifier: Apache-2.0
#pragma once
// Kernels of several phases in one launch, between which all blocks wait for one another: phases of some microseconds cost less
// than the launches that they would be. The blocks of such a launch are there at once. Every GPU can do this from compute
// capability 6.0 on, which is below all that the library is compiled for, so that nothing asks for it. A capture of a stream
// records such a launch as a kernel node with the attribute `cooperative`.
#include <cooperative_groups.h>

#include <utility>

#include "cuda/device_attribute.h"

namespace pcperc {

// For all threads of a launch_together: what any of them wrote before, all see behind it. A single block waits for itself.
__device__ __forceinline__ void wait_for_all_blocks() {
  if (gridDim.x == 1) {
    __syncthreads();
  } else {
    cooperative_groups::this_grid().sync();
  }
}

// Blocks for `count` items, `per_block` each if there are multiprocessors enough: at most one a multiprocessor.
inline unsigned blocks_together(int64_t count, int per_block, int at_most) {
  const int blocks = std::min(at_most, device_attribute<cudaDevAttrMultiProcessorCount>());
  return static_cast<unsigned>(std::clamp<int64_t>((count + per_block - 1) / per_block, 1, blocks));
}

// Blocks of a kernel without dynamic shared memory for `count` items, one each if the GPU holds as many blocks, else as many
// items each.
template <auto kKernel>
unsigned resident_blocks(int64_t count, int threads) {
  static DeviceNumbers known{};
  const int each = once_per_device(known, [&](int) {
    int blocks = 0;
    PCPERC_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kKernel, threads, 0));
    return blocks;
  });
  const int64_t most = int64_t{each} * device_attribute<cudaDevAttrMultiProcessorCount>();
  const int64_t turns = (count + most - 1) / most;
  return static_cast<unsigned>((count + turns - 1) / turns);
}

template <class... Params, class... Args>
void launch_together(void (*kernel)(Params...), unsigned blocks, int threads, cudaStream_t stream, Args&&... args) {
  cudaLaunchAttribute cooperative{};
  cooperative.id = cudaLaunchAttributeCooperative;
  cooperative.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  config.stream = stream;
  config.attrs = &cooperative;
  config.numAttrs = 1;
  PCPERC_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...));
}

}  // namespace pcperc
