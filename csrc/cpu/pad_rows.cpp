// SPDX-License-Identifier: Apache-2.0
// Rows of a cloud copied into buffers of more rows, the rest padding.
#include "common/pad_rows.h"

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstring>

#include "common/tensors.h"

namespace pcperc {
namespace {

void pad_rows(Tensor coords, Tensor feats, Tensor to_coords, Tensor to_feats) {
  coords = as_contiguous(coords), feats = as_contiguous(feats);
  const int64_t bytes = check_pad_rows(coords, feats, to_coords, to_feats);
  auto* const to = static_cast<int32_t*>(to_coords.data_ptr());
  if (coords.numel() > 0) std::copy_n(static_cast<const int32_t*>(coords.data_ptr()), coords.numel(), to);
  std::fill(to + coords.numel(), to + to_coords.numel(), kPaddingBatch);
  if (bytes > 0) std::memcpy(to_feats.data_ptr(), feats.data_ptr(), bytes);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) { m.impl("pad_rows", TORCH_BOX(&pad_rows)); }

}  // namespace pcperc
