// SPDX-License-Identifier: Apache-2.0
#pragma once
// Checks that keep a kernel inside its buffers. User-facing checks, with shapes in the message, stand in pcperc/ops.
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <sstream>
#include <stdexcept>

namespace pcperc {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline void check_matrix(const Tensor& tensor, const char* op, const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 2, op, ": ", name, " must have 2 dimensions, got ", tensor.dim());
  STD_TORCH_CHECK(tensor.is_contiguous(), op, ": ", name, " must be contiguous");
}

inline void check_dtype(const Tensor& tensor, ScalarType expected, const char* op, const char* name) {
  STD_TORCH_CHECK(tensor.scalar_type() == expected, op, ": ", name, " must have dtype ",
                  torch::headeronly::toString(expected), ", got ", torch::headeronly::toString(tensor.scalar_type()));
}

// Throw what reaches Python as a ValueError: for what is wrong with the values in a tensor and so is found by the kernel.
template <class... Parts>
[[noreturn]] void value_error(const Parts&... parts) {
  std::ostringstream message;
  ((message << parts), ...);
  throw std::invalid_argument(message.str());
}

}  // namespace pcperc
