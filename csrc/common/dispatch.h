// SPDX-License-Identifier: Apache-2.0
#pragma once
// From a tensor's dtype to a C++ type, and the type in which sums of it run.
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <type_traits>

#include "common/check.h"

namespace pcperc {

// float64 sums in float64, everything else in float32.
template <class T>
using Accumulator = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Call f(zero) with a zero of the C++ type of a floating point dtype: f is a generic lambda, `using T = decltype(zero)`.
template <class F>
void dispatch_float(ScalarType dtype, const char* op, const F& f) {
  switch (dtype) {
    case ScalarType::Double: return f(double{});
    case ScalarType::Float: return f(float{});
    case ScalarType::Half: return f(torch::headeronly::Half{});
    case ScalarType::BFloat16: return f(torch::headeronly::BFloat16{});
    default: STD_TORCH_CHECK(false, op, ": dtype must be floating point, got ", torch::headeronly::toString(dtype));
  }
}

// Call f(zero) with a zero of the C++ type of positions, float or double.
template <class F>
void dispatch_positions(ScalarType dtype, const char* op, const F& f) {
  STD_TORCH_CHECK(dtype == ScalarType::Float || dtype == ScalarType::Double, op, ": points must be float32 or float64");
  dtype == ScalarType::Float ? f(float{}) : f(double{});
}

}  // namespace pcperc
