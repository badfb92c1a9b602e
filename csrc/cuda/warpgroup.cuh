// SPDX-License-Identifier: Apache-2.0
#pragma once
// Hopper's asynchronous products of a warpgroup (sm_90a): A and B in shared memory, sums in registers; and its clusters of
// blocks that read each other's shared memory.
#include "cuda/tensor_core.cuh"

namespace pcperc {

// Make this thread's writes to shared memory visible to the products that other threads begin behind the next barrier.
__device__ __forceinline__ void publish_to_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Order the registers of the sums before the products that follow.
__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Wait until all groups of products but the last kPending are done.
template <int kPending>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// A matrix at a shared address, in rows of 128 bytes whose 16-byte chunks c stand at c ^ (row % 8); starts on 1024 bytes but
// for whole steps. A row holds 64 values of depth or, transposed, 64 rows of A or columns of B, `next_bytes` from one 64 to
// the next. In units of 16 bytes, so that n bytes behind a matrix of low word w the next one has w + n / 16. The upper bits of
// an address tell the block of a cluster.
__device__ __forceinline__ uint32_t describe_start(uint32_t address, uint32_t next_bytes) {
  return (address & 0x3ffff) >> 4 | next_bytes >> 4 << 16;
}

__device__ __forceinline__ uint64_t describe_matrix(uint32_t low_word) {
  constexpr uint64_t stride = 1024 >> 4, swizzle = uint64_t{1} << 62;
  return low_word | stride << 32 | swizzle;
}

__device__ __forceinline__ uint64_t describe_matrix(const void* shared, uint32_t next_bytes) {
  return describe_matrix(describe_start(shared_address(shared), next_bytes));
}

// sums (64, 8 kPieces) += A (64, 16) @ B (16, 8 kPieces) for a warpgroup. Rows in shared memory are those of A and those of
// B; transposed, their columns.
template <class T, int kPieces, bool kTransposedA = false, bool kTransposedB = false>
struct WarpgroupProduct;

// The names of an instruction's registers: %0 to %9, then ten from 10 x TENS on; and the sums that they stand for.
#define PCPERC_TEN(TENS)                                                                                               \
  "%" #TENS "0, %" #TENS "1, %" #TENS "2, %" #TENS "3, %" #TENS "4, %" #TENS "5, %" #TENS "6, %" #TENS "7, %" #TENS "8, " \
  "%" #TENS "9, "
#define PCPERC_32_NAMES PCPERC_TEN() PCPERC_TEN(1) PCPERC_TEN(2) "%30, %31"
#define PCPERC_48_NAMES PCPERC_TEN() PCPERC_TEN(1) PCPERC_TEN(2) PCPERC_TEN(3) "%40, %41, %42, %43, %44, %45, %46, %47"
#define PCPERC_64_NAMES PCPERC_TEN() PCPERC_TEN(1) PCPERC_TEN(2) PCPERC_TEN(3) PCPERC_TEN(4) PCPERC_TEN(5) "%60, %61, %62, %63"
#define PCPERC_128_NAMES                                                                                         \
  PCPERC_TEN() PCPERC_TEN(1) PCPERC_TEN(2) PCPERC_TEN(3) PCPERC_TEN(4) PCPERC_TEN(5) PCPERC_TEN(6) PCPERC_TEN(7) \
  PCPERC_TEN(8) PCPERC_TEN(9) PCPERC_TEN(10) PCPERC_TEN(11) "%120, %121, %122, %123, %124, %125, %126, %127"
#define PCPERC_SUM(J) "+f"(sums[J][0]), "+f"(sums[J][1]), "+f"(sums[J][2]), "+f"(sums[J][3])
#define PCPERC_4_SUMS(J) PCPERC_SUM(J), PCPERC_SUM(J + 1), PCPERC_SUM(J + 2), PCPERC_SUM(J + 3)
#define PCPERC_32_SUMS PCPERC_4_SUMS(0), PCPERC_4_SUMS(4)
#define PCPERC_48_SUMS PCPERC_32_SUMS, PCPERC_4_SUMS(8)
#define PCPERC_64_SUMS PCPERC_48_SUMS, PCPERC_4_SUMS(12)
#define PCPERC_128_SUMS PCPERC_64_SUMS, PCPERC_4_SUMS(16), PCPERC_4_SUMS(20), PCPERC_4_SUMS(24), PCPERC_4_SUMS(28)

// Columns, sums of a thread, and the operands behind them.
#define PCPERC_WARPGROUP_PRODUCT(T, TYPE, COLUMNS, SUMS, A, B, TRANSPOSED_A, TRANSPOSED_B)                                     \
  template <bool kTransposedA, bool kTransposedB>                                                                                 \
  struct WarpgroupProduct<T, SUMS / 4, kTransposedA, kTransposedB> {                                                              \
    __device__ static __forceinline__ void run(float (&sums)[SUMS / 4][4], uint64_t a, uint64_t b) {                           \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, 1, 0; wgmma.mma_async.sync.aligned.m64n" #COLUMNS "k16.f32." TYPE "." TYPE \
                   " {" PCPERC_##SUMS##_NAMES "}, " A ", " B ", p, 1, 1, " TRANSPOSED_A ", " TRANSPOSED_B "; }"                \
                   : PCPERC_##SUMS##_SUMS                                                                                      \
                   : "l"(a), "l"(b), "n"(kTransposedA ? 1 : 0), "n"(kTransposedB ? 0 : 1));                                       \
    }                                                                                                                          \
  };

PCPERC_WARPGROUP_PRODUCT(__half, "f16", 64, 32, "%32", "%33", "%34", "%35")
PCPERC_WARPGROUP_PRODUCT(__half, "f16", 96, 48, "%48", "%49", "%50", "%51")
PCPERC_WARPGROUP_PRODUCT(__half, "f16", 128, 64, "%64", "%65", "%66", "%67")
PCPERC_WARPGROUP_PRODUCT(__half, "f16", 256, 128, "%128", "%129", "%130", "%131")
PCPERC_WARPGROUP_PRODUCT(__nv_bfloat16, "bf16", 64, 32, "%32", "%33", "%34", "%35")
PCPERC_WARPGROUP_PRODUCT(__nv_bfloat16, "bf16", 96, 48, "%48", "%49", "%50", "%51")
PCPERC_WARPGROUP_PRODUCT(__nv_bfloat16, "bf16", 128, 64, "%64", "%65", "%66", "%67")
PCPERC_WARPGROUP_PRODUCT(__nv_bfloat16, "bf16", 256, 128, "%128", "%129", "%130", "%131")

#undef PCPERC_WARPGROUP_PRODUCT
#undef PCPERC_128_SUMS
#undef PCPERC_64_SUMS
#undef PCPERC_48_SUMS
#undef PCPERC_32_SUMS
#undef PCPERC_4_SUMS
#undef PCPERC_SUM
#undef PCPERC_128_NAMES
#undef PCPERC_64_NAMES
#undef PCPERC_48_NAMES
#undef PCPERC_32_NAMES
#undef PCPERC_TEN

// All threads of a cluster meet; what they wrote to shared memory before is there for all behind it.
__device__ __forceinline__ void meet_cluster() {
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

// Four values at the place in shared memory of block `rank` of the cluster that `address` is in this one.
__device__ __forceinline__ float4 load_from_block(uint32_t address, int rank) {
  float4 values;
  asm volatile(
      "{ .reg .b32 there; mapa.shared::cluster.u32 there, %4, %5; ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [there]; }"
      : "=f"(values.x), "=f"(values.y), "=f"(values.z), "=f"(values.w)
      : "r"(address), "r"(rank)
      : "memory");
  return values;
}

}  // namespace pcperc
