// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a GPU can do, asked of the driver once.
#include <array>
#include <atomic>

#include "common/launch.cuh"

namespace pcperc {

// An attribute of the current device that is never 0.
template <cudaDeviceAttr kAttribute>
int device_attribute() {
  static std::array<std::atomic<int>, 64> known{};
  int device = 0, value = 0;
  PCPERC_CUDA_CHECK(cudaGetDevice(&device));
  std::atomic<int>* const place = device < static_cast<int>(known.size()) ? &known[device] : nullptr;
  if (place != nullptr) value = place->load(std::memory_order_relaxed);
  if (value == 0) {
    PCPERC_CUDA_CHECK(cudaDeviceGetAttribute(&value, kAttribute, device));
    if (place != nullptr) place->store(value, std::memory_order_relaxed);
  }
  return value;
}

// Let a kernel have as much dynamic shared memory as a block can get; it must have no static one.
template <auto kKernel>
void allow_shared_memory() {
  static std::array<std::atomic<bool>, 64> allowed{};
  int device = 0;
  PCPERC_CUDA_CHECK(cudaGetDevice(&device));
  std::atomic<bool>* const place = device < static_cast<int>(allowed.size()) ? &allowed[device] : nullptr;
  if (place != nullptr && place->load(std::memory_order_relaxed)) return;
  const int bytes = device_attribute<cudaDevAttrMaxSharedMemoryPerBlockOptin>();
  PCPERC_CUDA_CHECK(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  if (place != nullptr) place->store(true, std::memory_order_relaxed);
}

}  // namespace pcperc
