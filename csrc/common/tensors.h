// SPDX-License-Identifier: Apache-2.0
#pragma once
// What operators ask of torch for each call, without its dispatcher where nothing is to do: a call through it by name costs
// microseconds, and a convolution made ten of them.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <optional>

namespace pcperc {

inline torch::stable::Tensor as_contiguous(const torch::stable::Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

inline std::optional<torch::stable::Tensor> as_contiguous(const std::optional<torch::stable::Tensor>& tensor) {
  return tensor ? std::optional(as_contiguous(*tensor)) : std::nullopt;
}

inline torch::stable::Tensor as_dtype(const torch::stable::Tensor& tensor, torch::headeronly::ScalarType dtype) {
  return tensor.scalar_type() == dtype ? tensor : torch::stable::to(tensor, dtype);
}

template <class T>
T* data_of(const torch::stable::Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

// Null where there is no tensor.
template <class T>
T* data_of(const std::optional<torch::stable::Tensor>& tensor) {
  return tensor ? data_of<T>(*tensor) : nullptr;
}

// An uninitialised tensor on the device of `like`, from torch's caching allocator: on a GPU it may be freed (go out of scope)
// as soon as the work that uses it is queued on the current stream.
inline torch::stable::Tensor empty_on(const torch::stable::Tensor& like, std::initializer_list<int64_t> sizes,
                                      torch::headeronly::ScalarType dtype) {
  std::array<int64_t, 8> strides{};
  STD_TORCH_CHECK(sizes.size() <= strides.size(), "empty_on: at most ", strides.size(), " dimensions, got ", sizes.size());
  int64_t stride = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<int64_t>(sizes.begin()[i], 1);
  }
  const int32_t type = torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype));
  int32_t device_type = 0;
  AtenTensorHandle handle = nullptr;
  auto status = aoti_torch_get_device_type(like.get(), &device_type);
  if (status == AOTI_TORCH_SUCCESS) {
    status = aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.begin(), strides.data(), type, device_type,
                                      like.get_device_index(), &handle);
  }
  STD_TORCH_CHECK(status == AOTI_TORCH_SUCCESS, "torch could not allocate ", stride, " numbers of ",
                  torch::headeronly::toString(dtype), "; is the memory of the device full?");
  return torch::stable::Tensor(handle);
}

}  // namespace pcperc
