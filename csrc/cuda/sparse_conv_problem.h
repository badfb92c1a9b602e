// SPDX-License-Identifier: Apache-2.0
#pragma once
// A launch's sizes and its GPU, as sparse_conv_selection.h asks for them.
#include <type_traits>

#include "cuda/sparse_conv_selection.h"
#include "cuda/sparse_conv_shape.cuh"
#include "cuda/warpgroup_support.h"

namespace pcperc {

// Products of T on tensor cores: float stands for TF32.
template <class T>
ConvProblem problem_of(const ConvShape& shape) {
  constexpr ConvDtype dtype = std::is_same_v<T, __half>          ? ConvDtype::kFloat16
                              : std::is_same_v<T, __nv_bfloat16> ? ConvDtype::kBfloat16
                                                                 : ConvDtype::kTf32;
  return {shape.num_out, shape.in_width, shape.out_width, shape.groups, shape.volume, dtype, has_warpgroup_products()};
}

}  // namespace pcperc
