// SPDX-License-Identifier: Apache-2.0
#pragma once
// Memory of the host that a kernel writes itself: one launch and one wait bring its results, without a copy between.
#include <mutex>
#include <vector>

#include "common/launch.cuh"

namespace pcperc {

// Pinned memory of any GPU, for as long as this lives; its owner waits for the kernel that writes it.
class HostBuffer {
 public:
  static constexpr int64_t kBytes = 16 << 10;

  HostBuffer() {
    {
      const std::lock_guard<std::mutex> lock(mutex());
      if (!unused().empty()) {
        data_ = unused().back();
        unused().pop_back();
        return;
      }
    }
    PCPERC_CUDA_CHECK(cudaHostAlloc(&data_, kBytes, cudaHostAllocPortable | cudaHostAllocMapped));
  }
  ~HostBuffer() {
    const std::lock_guard<std::mutex> lock(mutex());
    unused().push_back(data_);
  }
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;

  template <class T>
  T* data() const { return static_cast<T*>(data_); }

 private:
  // Never freed: when a process ends, the driver may be gone before static variables are. There are as many as threads that
  // waited at once.
  static std::mutex& mutex() {
    static auto* const mutex = new std::mutex;
    return *mutex;
  }
  static std::vector<void*>& unused() {
    static auto* const buffers = new std::vector<void*>;
    return *buffers;
  }

  void* data_ = nullptr;
};

}  // namespace pcperc
