// SPDX-License-Identifier: Apache-2.0
// Intersection over union of upright boxes, and greedy non-maximum suppression of rows that are sorted best first.
//
// Suppression in two steps: all pairs in parallel into a table of bits, 64 rows by one word; then one block that walks the
// words in order and keeps what no kept row before suppresses. Nothing goes to the host.
#include "box_iou.h"

#include <torch/csrc/stable/library.h>

#include "common/launch.cuh"

namespace pcperc {
namespace {

constexpr int kWord = 64;
constexpr int64_t kMaxWords = 48 * 1024 / sizeof(uint64_t) - 2 * kWord;  // what fits into a block's shared memory

__global__ void box_iou_kernel(const BoxFrame* a, const BoxFrame* b, int64_t n, int64_t m, bool with_height, double* iou) {
  PCPERC_GRID_LOOP(pair, n * m) { iou[pair] = box_iou(a[pair / m], b[pair % m], with_height); }
}

struct OverlapSuppresses {
  const BoxFrame* box;
  double threshold;
  __device__ bool operator()(int64_t i, int64_t j) const { return box_iou(box[i], box[j], false) > threshold; }
};

struct DistanceSuppresses {
  const double* centers;
  double squared_distance;
  __device__ bool operator()(int64_t i, int64_t j) const {
    const double dx = centers[2 * j] - centers[2 * i], dy = centers[2 * j + 1] - centers[2 * i + 1];
    return dot2(dx, dx, dy, dy) < squared_distance;
  }
};

// One thread a (row, word): bit b of mask[row * words + word] is set where row suppresses column word * 64 + b behind it.
// Words left of the diagonal are never read and stay as they are.
template <class F>
__global__ void suppression_mask_kernel(F suppresses, int64_t k, int64_t words, uint64_t* mask) {
  PCPERC_GRID_LOOP(index, k * words) {
    const int64_t row = index / words, word = index % words;
    if (word < row / kWord) continue;
    uint64_t bits = 0;
    for (int64_t column = max(word * kWord, row + 1); column < min((word + 1) * kWord, k); ++column) {
      if (suppresses(row, column)) bits |= uint64_t{1} << (column % kWord);
    }
    mask[index] = bits;
  }
}

// One block. Thread 0 settles the 64 rows of a word among themselves, their bits brought near before, as each row waits for
// the one above; then all threads strike out what those that were kept suppress further on.
__global__ void greedy_keep_kernel(const uint64_t* mask, int64_t k, int64_t words, bool* keep) {
  extern __shared__ uint64_t removed[];
  __shared__ uint64_t kept, among[kWord];
  for (int64_t word = threadIdx.x; word < words; word += blockDim.x) removed[word] = 0;
  __syncthreads();
  for (int64_t word = 0; word < words; ++word) {
    const int64_t first = word * kWord;
    const int rows = static_cast<int>(min(k - first, static_cast<int64_t>(kWord)));
    for (int b = threadIdx.x; b < rows; b += blockDim.x) among[b] = mask[(first + b) * words + word];
    __syncthreads();
    if (threadIdx.x == 0) {
      uint64_t gone = removed[word], stay = 0;
      for (int b = 0; b < rows; ++b) {
        if (gone >> b & 1) continue;
        stay |= uint64_t{1} << b;
        gone |= among[b];
      }
      kept = stay;
    }
    __syncthreads();
    for (int64_t later = word + 1 + threadIdx.x; later < words; later += blockDim.x) {
      uint64_t gone = removed[later];
      for (int b = 0; b < rows; ++b) {
        if (kept >> b & 1) gone |= mask[(first + b) * words + later];
      }
      removed[later] = gone;
    }
    for (int b = threadIdx.x; b < rows; b += blockDim.x) keep[first + b] = kept >> b & 1;
    __syncthreads();
  }
}

template <class F>
Tensor suppress(const Tensor& rows, const F& suppresses, const char* op) {
  const int64_t k = rows.size(0), words = (k + kWord - 1) / kWord;
  STD_TORCH_CHECK(words <= kMaxWords, op, ": at most ", kMaxWords * kWord, " rows, got ", k);
  const CudaScope scope(rows);
  const Tensor out = empty_on(rows, {k}, ScalarType::Bool);
  if (k == 0) return out;
  const Tensor mask = empty_on(rows, {k * words}, ScalarType::Long);
  uint64_t* bits = reinterpret_cast<uint64_t*>(mask.mutable_data_ptr<int64_t>());
  suppression_mask_kernel<<<grid_size(k * words), kThreads, 0, scope.stream()>>>(suppresses, k, words, bits);
  PCPERC_LAUNCH_CHECK();
  greedy_keep_kernel<<<1, kThreads, words * sizeof(uint64_t), scope.stream()>>>(bits, k, words, out.mutable_data_ptr<bool>());
  PCPERC_LAUNCH_CHECK();
  return out;
}

Tensor box_iou_matrix(const Tensor& frames_a, const Tensor& frames_b, bool with_height) {
  const BoxFrame* a = check_frames(frames_a, "box_iou", "frames_a");
  const BoxFrame* b = check_frames(frames_b, "box_iou", "frames_b");
  check_one_device("box_iou", {frames_a, frames_b});
  const int64_t n = frames_a.size(0), m = frames_b.size(0);
  const CudaScope scope(frames_a);
  const Tensor out = empty_on(frames_a, {n, m}, ScalarType::Double);
  if (n * m == 0) return out;
  box_iou_kernel<<<grid_size(n * m), kThreads, 0, scope.stream()>>>(a, b, n, m, with_height, out.mutable_data_ptr<double>());
  PCPERC_LAUNCH_CHECK();
  return out;
}

Tensor nms_bev(const Tensor& frames, double iou_threshold) {
  return suppress(frames, OverlapSuppresses{check_frames(frames, "nms_bev", "frames"), iou_threshold}, "nms_bev");
}

Tensor circle_nms(const Tensor& centers, double min_distance) {
  const double* data = check_positions(centers, 2, "circle_nms", "centers");
  return suppress(centers, DistanceSuppresses{data, min_distance * min_distance}, "circle_nms");
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("box_iou", TORCH_BOX(&pcperc::box_iou_matrix));
  m.impl("nms_bev", TORCH_BOX(&pcperc::nms_bev));
  m.impl("circle_nms", TORCH_BOX(&pcperc::circle_nms));
}
