// SPDX-License-Identifier: Apache-2.0
#pragma once
// Memory that is set to 0xff by the kernel that then fills it: on scenes of some 100,000 voxels a launch for that alone takes the
// host longer than the GPU.
#include "cuda/grid_barrier.cuh"

namespace pcperc {

constexpr int64_t kRowsTogether = 1 << 17;  // of more rows, threads of more blocks hide one another's waits
constexpr int kThreadsTogether = 512;  // so that a thread has registers enough

struct ClearedMemory {
  void* data;     // aligned to 16 bytes
  int64_t bytes;  // a multiple of 4; 0 where it has been cleared

  // For all threads of all blocks, first of all: behind it they see it cleared.
  __device__ void clear() const {
    if (bytes == 0) return;
    const int64_t num_quads = bytes / static_cast<int64_t>(sizeof(int4)), num_words = bytes / static_cast<int64_t>(sizeof(int));
    PCPERC_GRID_LOOP(i, num_quads) static_cast<int4*>(data)[i] = int4{-1, -1, -1, -1};
    PCPERC_GRID_LOOP(i, num_words - 4 * num_quads) static_cast<int*>(data)[4 * num_quads + i] = -1;
    wait_for_all_blocks();
  }
};

// Launch kernel(memory, args...), which clears it and goes over `rows`; its bounds are kThreadsTogether.
template <class... Params, class... Args>
void launch_cleared(void (*kernel)(ClearedMemory, Params...), ClearedMemory memory, int64_t rows, cudaStream_t stream,
                    Args&&... args) {
  if (rows <= kRowsTogether) {
    const int64_t work = std::max(rows, memory.bytes / 64);  // 4 stores a thread
    const unsigned blocks = blocks_together(work, kThreadsTogether, INT32_MAX);
    launch_together(kernel, blocks, kThreadsTogether, stream, memory, std::forward<Args>(args)...);
    return;
  }
  PCPERC_CUDA_CHECK(cudaMemsetAsync(memory.data, 0xff, memory.bytes, stream));
  kernel<<<grid_size(rows), kThreads, 0, stream>>>(ClearedMemory{nullptr, 0}, args...);
  PCPERC_LAUNCH_CHECK();
}

}  // namespace pcperc
