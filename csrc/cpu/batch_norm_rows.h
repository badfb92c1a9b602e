// SPDX-License-Identifier: Apache-2.0
#pragma once
// The inner loops of batch norm over the channels of a row, compiled for every instruction set of cpu/capability.h.
#include <cstdint>

#include "cpu/capability.h"

namespace pcperc {

// Rows of `channels` numbers, one behind the other.
struct RowBlock {
  int64_t rows, channels;
};

// What each channel is multiplied with and moved by.
template <class A>
struct ChannelNorm {
  const A *mean, *scale, *bias;
  A negative_slope;
};

// What each channel takes from its gradient g: scale * (g - mean_grad - (value - mean) * slope).
template <class A>
struct ChannelGrad {
  const A *mean, *scale, *mean_grad, *slope;
  A negative_slope;
};

template <class A>
struct BatchNormRows {
  // sums += value - shift, squares += (value - shift)^2.
  void (*add_moments)(RowBlock size, const A* values, const A* shift, A* sums, A* squares);
  // out = act((values - mean) * scale + bias + residual); residual may be null.
  void (*normalise)(RowBlock size, const A* values, const A* residual, const ChannelNorm<A>& norm, A* out);
  // With g = grad in front of the activation, whose output is `output` (null: none): sums += g, products += g * (value - mean).
  void (*add_grads)(RowBlock size, const A* grad, const A* output, const A* values, const A* mean, A negative_slope, A* sums,
                    A* products);
  // grad_residual = g, where it is not null, and grad_values.
  void (*differentiate)(RowBlock size, const A* grad, const A* output, const A* values, const ChannelGrad<A>& norm,
                        A* grad_residual, A* grad_values);
};

template <class A>
const BatchNormRows<A>& batch_norm_rows(Capability capability);

}  // namespace pcperc
