// SPDX-License-Identifier: Apache-2.0
// The entries of a neighbour table that are rows of the input, out of those that are not.
#include <algorithm>
#include <limits>

#include "cpu/conv_kernels.h"

#ifdef PCPERC_X86
#include <immintrin.h>
#endif

namespace pcperc {
namespace {

// An entry is a row where it is below this as an unsigned number.
uint32_t end_of_rows(int64_t num_in) {
  return static_cast<uint32_t>(std::min<int64_t>(num_in, int64_t{std::numeric_limits<int32_t>::max()} + 1));
}

int64_t find_pairs_base(const int32_t* entries, int64_t rows, int64_t num_in, int32_t* in_rows, int32_t* out_rows) {
  const uint32_t end = end_of_rows(num_in);
  int64_t count = 0;
  for (int64_t m = 0; m < rows; ++m) {
    in_rows[count] = entries[m];
    out_rows[count] = static_cast<int32_t>(m);
    count += static_cast<uint32_t>(entries[m]) < end;
  }
  return count;
}

#ifdef PCPERC_X86
PCPERC_TARGET_AVX512 int64_t find_pairs_avx512(const int32_t* entries, int64_t rows, int64_t num_in, int32_t* in_rows,
                                               int32_t* out_rows) {
  const __m512i end = _mm512_set1_epi32(static_cast<int32_t>(end_of_rows(num_in)));
  __m512i position = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  int64_t count = 0;
  for (int64_t m = 0; m < rows; m += 16) {
    const __mmask16 inside = rows - m >= 16 ? 0xffff : static_cast<__mmask16>((1u << (rows - m)) - 1);
    const __m512i entry = _mm512_maskz_loadu_epi32(inside, entries + m);
    const __mmask16 is_row = _mm512_mask_cmplt_epu32_mask(inside, entry, end);
    // Compressed in a register and stored whole: a compressing store is slow on some processors.
    _mm512_storeu_si512(in_rows + count, _mm512_maskz_compress_epi32(is_row, entry));
    _mm512_storeu_si512(out_rows + count, _mm512_maskz_compress_epi32(is_row, position));
    count += __builtin_popcount(is_row);
    position = _mm512_add_epi32(position, _mm512_set1_epi32(16));
  }
  return count;
}
#endif

}  // namespace

FindPairs find_pairs(Capability capability) {
#ifdef PCPERC_X86
  if (capability >= Capability::kAvx512) return find_pairs_avx512;
#endif
  return find_pairs_base;
}

}  // namespace pcperc
