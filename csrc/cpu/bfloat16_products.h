// SPDX-License-Identifier: Apache-2.0
#pragma once
// Products of bfloat16 numbers with float32 sums, two at a time, on processors with AVX512_BF16. The instruction rounds to
// nearest even and takes denormal numbers as zero.
#include <cstring>

#include "cpu/capability.h"
#include "cpu/row_products.h"

#ifdef PCPERC_X86
namespace pcperc {

struct BFloat16Pair {
  uint16_t even, odd;
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

// Two gathered rows at a time, their numbers in pairs.
PCPERC_INLINE void gather_pairs(const uint16_t* feats, int64_t channels, const int32_t* rows, int64_t count, BFloat16Pair* to,
                                int64_t to_stride) {
  typedef uint16_t Narrow __attribute__((vector_size(32), aligned(2), may_alias));
  typedef uint32_t Wide __attribute__((vector_size(64), aligned(4), may_alias));
  const int64_t row_bytes = channels * static_cast<int64_t>(sizeof(uint16_t)), ahead = pairs_ahead(row_bytes);
  for (int64_t i = 0; i < count; i += 2, to += to_stride) {
    const uint16_t* even = feats + rows[i] * channels;
    if (i + 1 == count) {
      for (int64_t c = 0; c < channels; ++c) to[c] = {even[c], 0};
      return;
    }
    fetch_row(feats + rows[i + ahead] * channels, row_bytes);
    fetch_row(feats + rows[i + 1 + ahead] * channels, row_bytes);
    const uint16_t* odd = feats + rows[i + 1] * channels;
    int64_t c = 0;
    for (; c + 16 <= channels; c += 16) {
      const Wide low = __builtin_convertvector(*reinterpret_cast<const Narrow*>(even + c), Wide);
      const Wide high = __builtin_convertvector(*reinterpret_cast<const Narrow*>(odd + c), Wide);
      *reinterpret_cast<Wide*>(to + c) = low | high << 16;
    }
    for (; c < channels; ++c) to[c] = {even[c], odd[c]};
  }
}

}  // namespace pcperc
#endif
