// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the kernels of the sparse convolution and their launches share.
#include "common/launch.cuh"
#include "common/sparse_conv_args.h"
#include "cuda/tensor_core.cuh"

namespace pcperc {

__host__ __device__ constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Sizes with the channels of one group, which kernels must not divide for.
struct ConvShape : ConvSizes {
  int64_t in_width, out_width;

  explicit ConvShape(const ConvSizes& sizes)
      : ConvSizes(sizes), in_width(sizes.group_in()), out_width(sizes.group_out()) {}
  bool is_depthwise() const { return in_width == 1 && out_width == 1; }
  // Rows of the input as a table's entries can name them: entry e is one where uint32_t(e) is less.
  __device__ uint32_t rows_in_tables() const { return static_cast<uint32_t>(min(num_in, int64_t{1} << 31)); }
  // Groups that would leave a tile all but empty.
  bool is_narrow() const { return in_width <= 8 && out_width <= 8; }
};

// Neighbouring values that one load or store moves.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Vector {
  T values[kCount];
};

template <int kCount, class T>
__device__ __forceinline__ Vector<T, kCount> load_vector(const T* from) {
  return *reinterpret_cast<const Vector<T, kCount>*>(from);
}

// How values of a type are multiplied.
template <class T, bool kTensorCoresOf>
struct Arithmetic {
  using Value = T;
  static constexpr bool kTensorCores = kTensorCoresOf;
};

// Call f with the Arithmetic of a dtype.
template <class F>
void dispatch_arithmetic(ScalarType dtype, bool allow_tf32, const char* op, const F& f) {
  switch (dtype) {
    case ScalarType::Double: return f(Arithmetic<double, false>{});
    case ScalarType::Float: return allow_tf32 ? f(Arithmetic<float, true>{}) : f(Arithmetic<float, false>{});
    case ScalarType::Half: return f(Arithmetic<__half, true>{});
    case ScalarType::BFloat16: return f(Arithmetic<__nv_bfloat16, true>{});
    default: STD_TORCH_CHECK(false, op, ": unsupported dtype ", torch::headeronly::toString(dtype));
  }
}

// Vectors need each group of each row to start on `bytes`.
inline bool is_aligned(const Tensor& tensor, int64_t group_bytes, int64_t bytes = 16) {
  return group_bytes % bytes == 0 && reinterpret_cast<uintptr_t>(tensor.data_ptr()) % bytes == 0;
}

// A block (lanes over channels, rows): the fewest lanes that hold `count`, a power of two, and rows that fill it up.
inline dim3 narrow_block(int64_t count) {
  unsigned lanes = 1;
  while (lanes < count && lanes < 32) lanes *= 2;
  return dim3(lanes, kThreads / lanes);
}

// Blocks of a launch: x up to 2^31 - 1, y up to 65535.
struct Grid {
  int64_t x, y = 1;
};

// Launch a kernel with dynamic shared memory; above 48 KiB a kernel must be told of it first.
template <class... Parameters, class... Args>
void launch_kernel(void (*kernel)(Parameters...), Grid grid, dim3 threads, int shared_bytes, cudaStream_t stream,
                   const Args&... args) {
  if (shared_bytes > 48 * 1024) {
    PCPERC_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  }
  STD_TORCH_CHECK(grid.x <= INT32_MAX && grid.y <= UINT16_MAX, "CUDA: ", grid.x, " x ", grid.y, " blocks are more than a launch takes");
  kernel<<<dim3(grid.x, grid.y), threads, shared_bytes, stream>>>(args...);
  PCPERC_LAUNCH_CHECK();
}

}  // namespace pcperc
