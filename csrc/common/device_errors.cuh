// SPDX-License-Identifier: Apache-2.0
#pragma once
// How a kernel reports the first offending row: each kind of error has a slot that atomicMin lowers, read back once at the end.
#include "common/coord_errors.h"
#include "common/launch.cuh"

namespace pcperc {

using ErrorRow = unsigned long long;
constexpr ErrorRow kNoError = ~0ULL;

__device__ __forceinline__ void report_error(ErrorRow* slot, int64_t row) { atomicMin(slot, static_cast<ErrorRow>(row)); }

// `kinds` error slots, followed by `extra` values that an operator reads back in the same wait.
class DeviceErrors {
 public:
  DeviceErrors(const Tensor& like, int64_t kinds, int64_t extra, cudaStream_t stream)
      : slots_(empty_on(like, {kinds + extra}, ScalarType::Long)), count_(kinds + extra), stream_(stream) {
    PCPERC_CUDA_CHECK(cudaMemsetAsync(slots_.data_ptr(), 0xff, count_ * sizeof(ErrorRow), stream));
  }
  ErrorRow* data() const { return static_cast<ErrorRow*>(slots_.data_ptr()); }
  void read(ErrorRow* host) const { copy_to_host(host, data(), count_, stream_); }

 private:
  Tensor slots_;
  int64_t count_;
  cudaStream_t stream_;
};

// A row of coords copied to the host, for a message.
class HostRow {
 public:
  HostRow(const Tensor& coords, int64_t index, KeyLayout layout, cudaStream_t stream) : index_(index), layout_(layout) {
    copy_to_host(values_, static_cast<const int32_t*>(coords.data_ptr()) + index * layout.columns(), layout.columns(), stream);
  }
  operator CoordRow() const { return {index_, values_, layout_}; }

 private:
  int64_t index_;
  int32_t values_[1 + kMaxDims];
  KeyLayout layout_;
};

}  // namespace pcperc
