// SPDX-License-Identifier: Apache-2.0
#pragma once
// Everything a CUDA operator needs around its kernels: device and stream of a tensor, temporary memory from torch's
// allocator, grid sizes, launch checks, and the way back to the host.
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "common/check.h"
#include "common/tensors.h"

// A call that failed is taken note of here: left behind, its error would be that of the next launch as well.
#define PCPERC_CUDA_CHECK(expression)                                                                      \
  do {                                                                                                     \
    const cudaError_t error_ = (expression);                                                               \
    if (error_ != cudaSuccess) static_cast<void>(cudaGetLastError());                                      \
    STD_TORCH_CHECK(error_ == cudaSuccess, "CUDA: ", cudaGetErrorString(error_), " in ", #expression);     \
  } while (0)

// Directly behind every <<<>>>: reports a launch that was refused.
#define PCPERC_LAUNCH_CHECK() PCPERC_CUDA_CHECK(cudaGetLastError())

namespace pcperc {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;  // of a warp, in its votes and shuffles

// Sets the current device to that of a tensor for the life of the scope, and knows its current stream.
class CudaScope {
 public:
  explicit CudaScope(const torch::stable::Tensor& tensor) : guard_(tensor.get_device_index()) {
    void* stream = nullptr;
    // torch 2.10 and 2.11 name their own check of such a code differently.
    const auto status = aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream);
    STD_TORCH_CHECK(status == AOTI_TORCH_SUCCESS, "CUDA: torch gave no current stream for device ", tensor.get_device_index());
    stream_ = static_cast<cudaStream_t>(stream);
  }
  cudaStream_t stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_ = nullptr;
};

// Refuse tensors of different devices: a kernel cannot read them.
inline void check_one_device(const char* op, std::initializer_list<torch::stable::Tensor> tensors) {
  for (const auto& tensor : tensors) {
    STD_TORCH_CHECK(tensor.is_cuda() && tensor.get_device_index() == tensors.begin()->get_device_index(), op,
                    ": all tensors must be on one CUDA device");
  }
}

// Blocks for one thread an item; kernels loop with PCPERC_GRID_LOOP, so the cap is safe for any count.
inline unsigned grid_size(int64_t count, int threads = kThreads) {
  return static_cast<unsigned>(std::clamp<int64_t>((count + threads - 1) / threads, 1, int64_t{1} << 20));
}

#define PCPERC_GRID_LOOP(index, count)                                                         \
  for (int64_t index = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; index < (count); \
       index += static_cast<int64_t>(gridDim.x) * blockDim.x)

// A block of rows by channels: neighbouring threads take neighbouring channels, and no index is divided.
struct ChannelLaunch {
  dim3 block, grid;

  ChannelLaunch(int64_t rows, int64_t channels) {
    unsigned lanes = 1;
    while (lanes < channels && lanes < 128) lanes *= 2;
    block = dim3(lanes, kThreads / lanes);
    grid = dim3(grid_size(rows, block.y));
  }
};

// For a kernel launched by ChannelLaunch: one pass for each row and channel.
#define PCPERC_CHANNEL_LOOP(row, channel, rows, channels)                                                \
  for (int64_t row = blockIdx.x * static_cast<int64_t>(blockDim.y) + threadIdx.y; row < (rows);           \
       row += static_cast<int64_t>(gridDim.x) * blockDim.y)                                               \
    for (int64_t channel = threadIdx.x; channel < (channels); channel += blockDim.x)

// The bits of a sort key up to `largest` >= 0, at least one.
inline int significant_bits(int64_t largest) {
  int bits = 1;
  while ((largest >> bits) != 0) ++bits;
  return bits;
}

// Call a cub algorithm, `call(temporary, bytes)`, twice: for the size of its workspace, then for the work.
template <class F>
void with_workspace(const torch::stable::Tensor& like, const F& call) {
  size_t bytes = 0;
  PCPERC_CUDA_CHECK(call(nullptr, bytes));
  const auto workspace = empty_on(like, {static_cast<int64_t>(std::max<size_t>(bytes, 1))}, torch::headeronly::ScalarType::Byte);
  PCPERC_CUDA_CHECK(call(workspace.data_ptr(), bytes));
}

// Copy `count` values to the host and wait for them: with coords_extent.cu, which needs no copy, all places where an operator
// synchronises.
template <class T>
void copy_to_host(T* host, const T* device, int64_t count, cudaStream_t stream) {
  PCPERC_CUDA_CHECK(cudaMemcpyAsync(host, device, count * sizeof(T), cudaMemcpyDeviceToHost, stream));
  PCPERC_CUDA_CHECK(cudaStreamSynchronize(stream));
}

}  // namespace pcperc
