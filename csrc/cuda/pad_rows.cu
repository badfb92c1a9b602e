// SPDX-License-Identifier: Apache-2.0
// Rows of a cloud copied into buffers of more rows, in one launch: what stands between a call of a captured network and its
// graph.
#include <torch/csrc/stable/library.h>

#include "common/launch.cuh"
#include "common/pad_rows.h"

namespace pcperc {
namespace {

struct PadArgs {
  const int32_t* coords;
  int64_t num_ints;  // of coords, and of their buffer
  int32_t* to_coords;
  int64_t to_ints;
  int64_t num_words;  // of feats
};

template <class Word>
__global__ void pad_rows_kernel(PadArgs args, const Word* __restrict__ feats, Word* __restrict__ to_feats) {
  PCPERC_GRID_LOOP(i, args.to_ints) args.to_coords[i] = i < args.num_ints ? args.coords[i] : kPaddingBatch;
  PCPERC_GRID_LOOP(i, args.num_words) to_feats[i] = feats[i];
}

template <class Word>
bool are_words(int64_t bytes, const void* from, const void* to) {
  return bytes % sizeof(Word) == 0 && reinterpret_cast<uintptr_t>(from) % sizeof(Word) == 0 &&
         reinterpret_cast<uintptr_t>(to) % sizeof(Word) == 0;
}

template <class Word>
void launch_pad(PadArgs args, int64_t bytes, const void* feats, void* to_feats, cudaStream_t stream) {
  args.num_words = bytes / static_cast<int64_t>(sizeof(Word));
  const unsigned blocks = std::min(grid_size(std::max(args.to_ints, args.num_words), 4 * kThreads), 4096u);
  pad_rows_kernel<Word>
      <<<blocks, kThreads, 0, stream>>>(args, static_cast<const Word*>(feats), static_cast<Word*>(to_feats));
  PCPERC_LAUNCH_CHECK();
}

void pad_rows(Tensor coords, Tensor feats, Tensor to_coords, Tensor to_feats) {
  check_one_device(kPadRows, {coords, feats, to_coords, to_feats});
  const CudaScope scope(coords);
  coords = as_contiguous(coords), feats = as_contiguous(feats);
  const int64_t bytes = check_pad_rows(coords, feats, to_coords, to_feats);
  if (to_coords.numel() == 0) return;
  const PadArgs args{static_cast<const int32_t*>(coords.data_ptr()), coords.numel(),
                     static_cast<int32_t*>(to_coords.data_ptr()), to_coords.numel(), 0};
  const void* from = feats.data_ptr();
  void* to = to_feats.data_ptr();
  if (are_words<int4>(bytes, from, to)) return launch_pad<int4>(args, bytes, from, to, scope.stream());
  launch_pad<int16_t>(args, bytes, from, to, scope.stream());
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) { m.impl("pad_rows", TORCH_BOX(&pad_rows)); }

}  // namespace pcperc
