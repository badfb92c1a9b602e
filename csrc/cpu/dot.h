// SPDX-License-Identifier: Apache-2.0
#pragma once
// The product of two rows of features.
#include <cstdint>

#include "common/dispatch.h"

namespace pcperc {

// Eight running sums, so that the compiler may use vector registers without reordering anything.
template <class T>
Accumulator<T> dot(const T* a, const T* b, int64_t size) {
  constexpr int64_t kLanes = 8;
  Accumulator<T> sums[kLanes] = {}, total = 0;
  int64_t c = 0;
  for (; c + kLanes <= size; c += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      sums[lane] += static_cast<Accumulator<T>>(a[c + lane]) * static_cast<Accumulator<T>>(b[c + lane]);
    }
  }
  for (; c < size; ++c) total += static_cast<Accumulator<T>>(a[c]) * static_cast<Accumulator<T>>(b[c]);
  for (const Accumulator<T> sum : sums) total += sum;
  return total;
}

}  // namespace pcperc
