// SPDX-License-Identifier: Apache-2.0
#pragma once
// Sums and products that are rounded one by one: a GPU would contract them to fused operations, and differ from a CPU.

namespace pcperc {

#ifdef __CUDA_ARCH__
__device__ inline float times(float a, float b) { return __fmul_rn(a, b); }
__device__ inline double times(double a, double b) { return __dmul_rn(a, b); }
__device__ inline float plus(float a, float b) { return __fadd_rn(a, b); }
__device__ inline double plus(double a, double b) { return __dadd_rn(a, b); }
#else
inline float times(float a, float b) { return a * b; }
inline double times(double a, double b) { return a * b; }
inline float plus(float a, float b) { return a + b; }
inline double plus(double a, double b) { return a + b; }
#endif

}  // namespace pcperc
