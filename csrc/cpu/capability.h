// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which instructions the kernels use: the best that the processor has, chosen when first asked for and never by the machine
// that built the library.

#if defined(__x86_64__)
#define PCPERC_X86 1
#define PCPERC_TARGET_AVX2 __attribute__((target("avx2,fma,f16c")))
#define PCPERC_TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c")))
#define PCPERC_TARGET_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,f16c,avx512bf16")))
#endif

namespace pcperc {

// Each one includes those before it. kBase is what the compiler assumes of every processor of the architecture.
enum class Capability { kBase, kAvx2, kAvx512, kAvx512Bf16 };

Capability cpu_capability();

}  // namespace pcperc
