// SPDX-License-Identifier: Apache-2.0
#pragma once
// The instructions behind the tiles: asynchronous copies to shared memory, matrix loads and tensor-core products (sm_80 on).
//
// With lane = 4 g + t, a fragment of a product (16, 2 s) @ (2 s, 8) of values of 16 / s bytes (s = 8: half, s = 4: TF32)
// holds, in 32-bit registers: A: row g | g + 8 and 4 bytes at t, then the same s values on; B: column g, as A's rows;
// C: row g, columns 2 t and 2 t + 1, then row g + 8.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace pcperc {

__device__ __forceinline__ uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// Hold a value in its registers: the compiler would else compute it anew in each step of a loop.
__device__ __forceinline__ void hold(uint32_t& value) { asm volatile("" : "+r"(value)); }
__device__ __forceinline__ void hold(int& value) { asm volatile("" : "+r"(value)); }
__device__ __forceinline__ void hold(const unsigned char*& value) { asm volatile("" : "+l"(value)); }

// Copy 16 bytes from global to shared memory, both on 16 bytes, in the background; zeros where not `present`, unread.
__device__ __forceinline__ void copy_async(uint32_t shared, const void* global, bool present) {
  asm volatile(
      "{ .reg .pred absent; setp.eq.b32 absent, %2, 0; cp.async.cg.shared.global [%0], [%1], 16, absent; }" ::"r"(shared),
      "l"(global), "r"(static_cast<int>(present))
      : "memory");
}

__device__ __forceinline__ void copy_async(void* shared, const void* global, bool present) {
  copy_async(shared_address(shared), global, present);
}

// Words from global memory that nobody writes, or zeros where not `present`, unread; aligned to their size.
__device__ __forceinline__ void load_or_zero(uint32_t (&to)[2], const void* from, bool present) {
  asm volatile(
      "{ .reg .pred present; setp.ne.b32 present, %3, 0; mov.b32 %0, 0; mov.b32 %1, 0; "
      "@present ld.global.nc.v2.b32 {%0, %1}, [%2]; }"
      : "=&r"(to[0]), "=&r"(to[1])
      : "l"(from), "r"(static_cast<int>(present)));
}

__device__ __forceinline__ void load_or_zero(uint32_t (&to)[4], const void* from, bool present) {
  asm volatile(
      "{ .reg .pred present; setp.ne.b32 present, %5, 0; mov.b32 %0, 0; mov.b32 %1, 0; mov.b32 %2, 0; mov.b32 %3, 0; "
      "@present ld.global.nc.v4.b32 {%0, %1, %2, %3}, [%4]; }"
      : "=&r"(to[0]), "=&r"(to[1]), "=&r"(to[2]), "=&r"(to[3])
      : "l"(from), "r"(static_cast<int>(present)));
}

// Close the group of the copies that this thread has begun.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Wait until all groups of this thread but the last `kPending` are there.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8 x 16-byte matrices: lane l names row l % 8 of matrix l / 8 and gets, of each matrix, the 4 bytes at t of row g.
__device__ __forceinline__ void load_matrices(uint32_t (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}

// The same for matrices of 8 x 8 half-precision values that lie transposed: a lane gets rows 2 t and 2 t + 1 of column g.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}

// The bits of a float32 rounded to TF32: the tensor cores would cut them off.
__device__ __forceinline__ uint32_t round_to_tf32(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}

#define PCPERC_MMA(SHAPE_AND_TYPES)                                                                              \
  asm volatile("mma.sync.aligned." SHAPE_AND_TYPES " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])                                        \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

// sums += A @ B for a warp, in float32; T is only named.
template <class T>
__device__ void multiply_fragments(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

template <>
__device__ __forceinline__ void multiply_fragments<__half>(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  PCPERC_MMA("m16n8k16.row.col.f32.f16.f16.f32");
}

template <>
__device__ __forceinline__ void multiply_fragments<__nv_bfloat16>(float (&sums)[4], const uint32_t (&a)[4],
                                                                  const uint32_t (&b)[2]) {
  PCPERC_MMA("m16n8k16.row.col.f32.bf16.bf16.f32");
}

template <>
__device__ __forceinline__ void multiply_fragments<float>(float (&sums)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  PCPERC_MMA("m16n8k8.row.col.f32.tf32.tf32.f32");
}

#undef PCPERC_MMA

}  // namespace pcperc
