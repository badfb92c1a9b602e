// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a GPU can do, asked of the driver once.
#include <array>
#include <atomic>

#include "common/launch.cuh"

namespace pcperc {

using DeviceNumbers = std::array<std::atomic<int>, 64>;

// find(device) for the current device, a number that is never 0, asked once for each of the devices that `known` has room for.
template <class F>
int once_per_device(DeviceNumbers& known, const F& find) {
  int device = 0, value = 0;
  PCPERC_CUDA_CHECK(cudaGetDevice(&device));
  std::atomic<int>* const place = device < static_cast<int>(known.size()) ? &known[device] : nullptr;
  if (place != nullptr) value = place->load(std::memory_order_relaxed);
  if (value == 0) {
    value = find(device);
    if (place != nullptr) place->store(value, std::memory_order_relaxed);
  }
  return value;
}

// An attribute of the current device that is never 0.
template <cudaDeviceAttr kAttribute>
int device_attribute() {
  static DeviceNumbers known{};
  return once_per_device(known, [](int device) {
    int value = 0;
    PCPERC_CUDA_CHECK(cudaDeviceGetAttribute(&value, kAttribute, device));
    return value;
  });
}

// Let a kernel have as much dynamic shared memory as a block can get; it must have no static one.
template <auto kKernel>
void allow_shared_memory() {
  static DeviceNumbers allowed{};
  once_per_device(allowed, [](int) {
    const int bytes = device_attribute<cudaDevAttrMaxSharedMemoryPerBlockOptin>();
    PCPERC_CUDA_CHECK(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    return bytes;
  });
}

}  // namespace pcperc
