// SPDX-License-Identifier: Apache-2.0
#pragma once
// Batch norm of the rows of feats (M, C) with what follows it, the same on CPU and CUDA:
//   out = act((feats - mean) * invstd * weight + bias + residual), act(x) = x for x > 0 and negative_slope * x elsewhere
// Sums over the rows run in blocks of rows that depend on M and C alone, each about its own first row, and the blocks are then
// combined in their order: results repeat, and a mean far from zero costs no digits.
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>

#include "common/check.h"
#include "common/coord_key.h"
#include "common/dispatch.h"

namespace pcperc {

// A vector of parameters, in the type of the features or in that of the sums; a default where it is not given.
template <class T>
struct Parameter {
  using A = Accumulator<T>;
  T* narrow;
  A* wide;

  PCPERC_HOST_DEVICE bool given() const { return narrow || wide; }
  PCPERC_HOST_DEVICE A get(int64_t c, A otherwise) const {
    return wide ? wide[c] : narrow ? static_cast<A>(narrow[c]) : otherwise;
  }
  // Those of kWidth channels from c on.
  template <int kWidth>
  PCPERC_HOST_DEVICE void get(int64_t c, A otherwise, A (&values)[kWidth]) const {
    if (wide) {
      for (int v = 0; v < kWidth; ++v) values[v] = wide[c + v];
    } else if (narrow) {
      for (int v = 0; v < kWidth; ++v) values[v] = static_cast<A>(narrow[c + v]);
    } else {
      for (int v = 0; v < kWidth; ++v) values[v] = otherwise;
    }
  }
  PCPERC_HOST_DEVICE void set(int64_t c, A value) const {
    if (wide) wide[c] = value;
    else if (narrow) narrow[c] = static_cast<T>(value);
  }
};

template <class T>
Parameter<T> parameter(const std::optional<Tensor>& tensor) {
  if (!tensor) return {nullptr, nullptr};
  void* data = tensor->data_ptr();
  const bool is_double = tensor->scalar_type() == ScalarType::Double, is_float = tensor->scalar_type() == ScalarType::Float;
  if (std::is_same_v<T, double> ? is_double : is_float) return {nullptr, static_cast<Accumulator<T>*>(data)};
  return {static_cast<T*>(data), nullptr};
}

// What a layer keeps of all its batches; a momentum below 0 stands for the plain average of them.
template <class T>
struct RunningStatistics {
  using A = Accumulator<T>;
  Parameter<T> mean, var;
  int64_t* num_batches;
  double momentum;

  // num_batches counts this batch already.
  PCPERC_HOST_DEVICE void update(int64_t c, A batch_mean, A unbiased_var) const {
    const A factor = momentum >= 0 || !num_batches ? static_cast<A>(momentum) : A(1) / static_cast<A>(*num_batches);
    mean.set(c, (1 - factor) * mean.get(c, 0) + factor * batch_mean);
    var.set(c, (1 - factor) * var.get(c, 0) + factor * unbiased_var);
  }
};

// NaN stays; a slope of 0 makes 0 of minus infinity too.
template <class A>
PCPERC_HOST_DEVICE A activate(A value, A negative_slope) {
  return value < A(0) ? (negative_slope == A(0) ? A(0) : value * negative_slope) : value;
}

// The gradient in front of the activation; the sign of its output is that of its input.
template <class A>
PCPERC_HOST_DEVICE A activation_grad(A grad, A output, A negative_slope) {
  const A below = grad * negative_slope;
  return output > A(0) ? grad : below;
}

inline void check_like_feats(const char* op, const char* name, const Tensor& tensor, const Tensor& feats) {
  check_matrix(tensor, op, name);
  check_dtype(tensor, feats.scalar_type(), op, name);
  STD_TORCH_CHECK(tensor.size(0) == feats.size(0) && tensor.size(1) == feats.size(1), op, ": ", name, " must be (",
                  feats.size(0), ", ", feats.size(1), ") like feats, got (", tensor.size(0), ", ", tensor.size(1), ")");
}

inline void check_parameter(const char* op, const char* name, const std::optional<Tensor>& tensor, const Tensor& feats) {
  if (!tensor) return;
  STD_TORCH_CHECK(tensor->dim() == 1 && tensor->is_contiguous() && tensor->numel() == feats.size(1), op, ": ", name,
                  " must be contiguous, one value for each of ", feats.size(1), " channels");
  const ScalarType type = tensor->scalar_type(), own = feats.scalar_type();
  STD_TORCH_CHECK(type == own || (type == ScalarType::Float && own != ScalarType::Double), op, ": ", name,
                  " must have the dtype of feats or float32, got ", torch::headeronly::toString(type));
}

// The type of mean and invstd, and of the gradients of the parameters.
inline ScalarType statistics_dtype(const Tensor& feats) {
  return feats.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline void check_batch_norm(const char* op, const Tensor& feats, const std::optional<Tensor>& residual,
                             const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
                             const std::optional<Tensor>& mean, const std::optional<Tensor>& var) {
  check_matrix(feats, op, "feats");
  if (residual) check_like_feats(op, "residual", *residual, feats);
  check_parameter(op, "weight", weight, feats);
  check_parameter(op, "bias", bias, feats);
  check_parameter(op, "mean", mean, feats);
  check_parameter(op, "var", var, feats);
}

inline void check_num_batches(const char* op, const std::optional<Tensor>& tensor) {
  if (!tensor) return;
  check_dtype(*tensor, ScalarType::Long, op, "num_batches_tracked");
  STD_TORCH_CHECK(tensor->numel() == 1, op, ": num_batches_tracked must be one number");
}

inline void check_batch_norm_grad(const char* op, const Tensor& grad, const Tensor& feats, const std::optional<Tensor>& out,
                                  const Tensor& mean, const Tensor& invstd, const std::optional<Tensor>& weight,
                                  bool with_residual) {
  check_matrix(feats, op, "feats");
  check_like_feats(op, "grad", grad, feats);
  if (out) check_like_feats(op, "out", *out, feats);
  STD_TORCH_CHECK(out || !with_residual, op, ": without an activation the gradient of the residual is grad itself");
  check_parameter(op, "weight", weight, feats);
  for (const Tensor& statistic : {mean, invstd}) {
    check_parameter(op, "statistics", statistic, feats);
    check_dtype(statistic, statistics_dtype(feats), op, "statistics");
  }
}

// What the gradients are computed from; out is null where there is no activation.
template <class T>
struct BatchNormGrad {
  using A = Accumulator<T>;
  T *grad, *feats, *out;
  A *mean, *invstd;
  Parameter<T> weight;
  A negative_slope;
  int64_t rows, channels;
};

}  // namespace pcperc
