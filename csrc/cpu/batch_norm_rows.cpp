// SPDX-License-Identifier: Apache-2.0
#include "cpu/batch_norm_rows.h"

#include "batch_norm.h"
#include "cpu/vectors.h"

namespace pcperc {
namespace {

template <class A>
PCPERC_INLINE void add_moments(RowBlock size, const A* values, const A* shift, A* __restrict__ sums,
                               A* __restrict__ squares) {
  for (int64_t m = 0; m < size.rows; ++m, values += size.channels) {
    for (int64_t c = 0; c < size.channels; ++c) {
      const A value = values[c] - shift[c];
      sums[c] += value;
      squares[c] += value * value;
    }
  }
}

template <bool kAdds, class A>
PCPERC_INLINE void normalise_rows(RowBlock size, const A* values, const A* residual, const ChannelNorm<A>& norm,
                                  A* __restrict__ out) {
  const A *mean = norm.mean, *scale = norm.scale, *bias = norm.bias;
  const bool is_relu = norm.negative_slope == 0;
  for (int64_t m = 0; m < size.rows; ++m, values += size.channels, out += size.channels) {
    for (int64_t c = 0; c < size.channels; ++c) {
      A value = (values[c] - mean[c]) * scale[c] + bias[c];
      if (kAdds) value += residual[m * size.channels + c];
      const A below = is_relu ? A(0) : value * norm.negative_slope;
      out[c] = value < 0 ? below : value;
    }
  }
}

// kActive: there is an output.
template <bool kActive, class A>
PCPERC_INLINE void add_grads_of(RowBlock size, const A* grad, const A* output, const A* values, const A* mean,
                                A negative_slope, A* __restrict__ sums, A* __restrict__ products) {
  for (int64_t i = 0; i < size.rows * size.channels; i += size.channels) {
    for (int64_t c = 0; c < size.channels; ++c) {
      const A value = kActive ? activation_grad(grad[i + c], output[i + c], negative_slope) : grad[i + c];
      sums[c] += value;
      products[c] += value * (values[i + c] - mean[c]);
    }
  }
}

template <bool kActive, bool kKeeps, class A>
PCPERC_INLINE void differentiate_of(RowBlock size, const A* grad, const A* output, const A* values,
                                    const ChannelGrad<A>& norm, A* __restrict__ grad_residual,
                                    A* __restrict__ grad_values) {
  const A *mean = norm.mean, *scale = norm.scale, *mean_grad = norm.mean_grad, *slope = norm.slope;
  for (int64_t i = 0; i < size.rows * size.channels; i += size.channels) {
    for (int64_t c = 0; c < size.channels; ++c) {
      const A value = kActive ? activation_grad(grad[i + c], output[i + c], norm.negative_slope) : grad[i + c];
      if (kKeeps) grad_residual[i + c] = value;
      grad_values[i + c] = scale[c] * (value - mean_grad[c] - (values[i + c] - mean[c]) * slope[c]);
    }
  }
}

#define PCPERC_BATCH_NORM_ROWS(SUFFIX, TARGET)                                                                              \
  template <class A>                                                                                                        \
  TARGET void add_moments_##SUFFIX(RowBlock size, const A* values, const A* shift, A* sums, A* squares) {                   \
    add_moments(size, values, shift, sums, squares);                                                                        \
  }                                                                                                                         \
  template <class A>                                                                                                        \
  TARGET void normalise_##SUFFIX(RowBlock size, const A* values, const A* residual, const ChannelNorm<A>& norm, A* out) {   \
    residual ? normalise_rows<true>(size, values, residual, norm, out)                                                      \
             : normalise_rows<false>(size, values, residual, norm, out);                                                    \
  }                                                                                                                         \
  template <class A>                                                                                                        \
  TARGET void add_grads_##SUFFIX(RowBlock size, const A* grad, const A* output, const A* values, const A* mean, A slope,    \
                                 A* sums, A* products) {                                                                    \
    output ? add_grads_of<true>(size, grad, output, values, mean, slope, sums, products)                                    \
           : add_grads_of<false>(size, grad, output, values, mean, slope, sums, products);                                  \
  }                                                                                                                         \
  template <class A>                                                                                                        \
  TARGET void differentiate_##SUFFIX(RowBlock size, const A* grad, const A* output, const A* values,                        \
                                     const ChannelGrad<A>& norm, A* grad_residual, A* grad_values) {                        \
    if (!output) {                                                                                                          \
      differentiate_of<false, false>(size, grad, output, values, norm, grad_residual, grad_values);                         \
    } else if (grad_residual) {                                                                                             \
      differentiate_of<true, true>(size, grad, output, values, norm, grad_residual, grad_values);                           \
    } else {                                                                                                                \
      differentiate_of<true, false>(size, grad, output, values, norm, grad_residual, grad_values);                          \
    }                                                                                                                       \
  }                                                                                                                         \
  template <class A>                                                                                                        \
  constexpr BatchNormRows<A> kRows_##SUFFIX { add_moments_##SUFFIX<A>, normalise_##SUFFIX<A>, add_grads_##SUFFIX<A>,        \
                                              differentiate_##SUFFIX<A> }

PCPERC_BATCH_NORM_ROWS(base, );
#ifdef PCPERC_X86
PCPERC_BATCH_NORM_ROWS(avx2, PCPERC_TARGET_AVX2);
PCPERC_BATCH_NORM_ROWS(avx512, PCPERC_TARGET_AVX512);
#endif

}  // namespace

template <class A>
const BatchNormRows<A>& batch_norm_rows(Capability capability) {
#ifdef PCPERC_X86
  if (capability >= Capability::kAvx512) return kRows_avx512<A>;
  if (capability == Capability::kAvx2) return kRows_avx2<A>;
#endif
  return kRows_base<A>;
}

template const BatchNormRows<float>& batch_norm_rows<float>(Capability);
template const BatchNormRows<double>& batch_norm_rows<double>(Capability);

}  // namespace pcperc
