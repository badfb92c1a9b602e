// SPDX-License-Identifier: Apache-2.0
#pragma once
// The step of a product of bfloat16 numbers with float32 sums, two channels at a time, on processors with AVX512_BF16. The
// instruction rounds to nearest even and takes denormal numbers as zero.
#include <cstring>

#include "cpu/capability.h"
#include "cpu/vectors.h"

#ifdef PCPERC_X86
namespace pcperc {

struct BFloat16Pair {
  uint16_t even, odd;  // channels 2 c and 2 c + 1
};

struct MultiplyAddPairs {
  static constexpr int kBytes = 64;
  using In = BFloat16Pair;
  using Sum = float;
  using Weight = Register<int32_t, kBytes>;
  static PCPERC_INLINE const Weight& weight_at(const In* from) { return *reinterpret_cast<const Weight*>(from); }
  static PCPERC_INLINE void step(Register<float, kBytes>& sum, In x, const Weight& w) {
    int32_t pair;
    std::memcpy(&pair, &x, sizeof(pair));
    const Weight everywhere = Weight{} + pair;
    // Not an intrinsic, which could not be inlined into a template that is itself compiled for no instruction set; and of a
    // copy, so that the array of sums stays in registers.
    Register<float, kBytes> result = sum;
    asm("vdpbf16ps %2, %1, %0" : "+v"(result) : "v"(w), "v"(everywhere));
    sum = result;
  }
};

}  // namespace pcperc
#endif
