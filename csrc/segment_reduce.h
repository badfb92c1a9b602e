// SPDX-License-Identifier: Apache-2.0
#pragma once
// Segments of rows that may be as long as a whole cloud, the same on CPU and CUDA:
//   index  (M,)     int32  the segment of each row; a row outside [0, S) is in none
//   order  (M,)     int32  rows sorted by segment
//   starts (S + 1,) int32  the rows of segment i are order[starts[i] .. starts[i + 1]]
// A segment is cut into chunks of kChunkRows rows, counted from its own start; the chunks are reduced in parallel, and then
// the results of each segment's chunks, in a fixed order. The cut depends on the segments alone, so results repeat.
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>

#include "segment.h"

namespace pcperc {

constexpr int64_t kChunkRows = 1024;

struct LongSegments {
  const int32_t *index, *order, *starts;
  int64_t count, num_rows;

  PCPERC_HOST_DEVICE int64_t start(int64_t i) const {
    const int64_t value = starts[i];
    return value < 0 ? 0 : value > num_rows ? num_rows : value;
  }

  // Each chunk has a slot for its result. Segment i has at most floor(start(i + 1) / kChunkRows) - floor(start(i) /
  // kChunkRows) + 1 chunks, so the slots from first_slot(i) on are its own, and none needs to be counted beforehand.
  PCPERC_HOST_DEVICE int64_t num_slots() const { return count > 0 ? num_rows / kChunkRows + count : 0; }
  PCPERC_HOST_DEVICE int64_t first_slot(int64_t i) const { return start(i) / kChunkRows + i; }
  PCPERC_HOST_DEVICE int64_t num_chunks(int64_t i) const {
    const int64_t size = start(i + 1) - start(i);
    return size > 0 ? (size + kChunkRows - 1) / kChunkRows : 0;
  }

  // The rows (entries of order) of the chunk of a slot; none where the slot is not used.
  PCPERC_HOST_DEVICE EntryRange chunk(int64_t slot) const {
    int64_t low = 0, high = count;  // the last segment whose first slot is not behind this one
    while (high - low > 1) {
      const int64_t middle = (low + high) / 2;
      (first_slot(middle) <= slot ? low : high) = middle;
    }
    const int64_t begin = start(low) + (slot - first_slot(low)) * kChunkRows, limit = start(low + 1);
    if (begin < start(low) || begin >= limit) return {0, 0};
    return {begin, begin + kChunkRows < limit ? begin + kChunkRows : limit};
  }
};

inline LongSegments check_long_segments(const char* op, const Tensor& index, const Tensor& order, const Tensor& starts) {
  check_vector(index, ScalarType::Int, op, "index");
  check_vector(order, ScalarType::Int, op, "order");
  check_vector(starts, ScalarType::Int, op, "starts");
  STD_TORCH_CHECK(order.numel() == index.numel(), op, ": order must have ", index.numel(), " values, got ", order.numel());
  STD_TORCH_CHECK(starts.numel() >= 1, op, ": starts must have at least 1 value");
  STD_TORCH_CHECK(index.numel() <= INT32_MAX, op, ": at most 2^31 - 1 rows, got ", index.numel());
  return {index.const_data_ptr<int32_t>(), order.const_data_ptr<int32_t>(), starts.const_data_ptr<int32_t>(),
          starts.numel() - 1, index.numel()};
}

inline void check_rows_of(const char* op, const char* name, const Tensor& tensor, int64_t rows, int64_t channels) {
  check_matrix(tensor, op, name);
  STD_TORCH_CHECK(tensor.size(0) == rows && tensor.size(1) == channels, op, ": ", name, " must be (", rows, ", ", channels,
                  "), got (", tensor.size(0), ", ", tensor.size(1), ")");
}

// float64 sums for float64, float32 sums for all else.
inline ScalarType accumulator_dtype(ScalarType feats) {
  return feats == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// What is reduced: feats (M, C), contiguous, and factor like it, where there is one.
inline LongSegments check_dot(const char* op, const Tensor& feats, const std::optional<Tensor>& factor, const Tensor& index,
                              const Tensor& order, const Tensor& starts) {
  const LongSegments s = check_long_segments(op, index, order, starts);
  check_matrix(feats, op, "feats");
  check_rows_of(op, "feats", feats, s.num_rows, feats.size(1));
  if (factor) check_rows_of(op, "factor", *factor, s.num_rows, feats.size(1));
  if (factor) check_dtype(*factor, feats.scalar_type(), op, "factor");
  return s;
}

// What segment_affine is given: feats (M, C), scale and shift (S, C) in the type of the sums. Returns C.
inline int64_t check_affine(const char* op, std::optional<Tensor>& feats, std::optional<Tensor>& scale,
                            std::optional<Tensor>& shift, const LongSegments& s) {
  STD_TORCH_CHECK(feats || shift, op, ": feats or shift must be given");
  STD_TORCH_CHECK(feats || !scale, op, ": scale needs feats");
  for (std::optional<Tensor>* tensor : {&feats, &scale, &shift}) {
    if (*tensor) *tensor = torch::stable::contiguous(**tensor);
  }
  const Tensor& like = feats ? *feats : *shift;
  check_matrix(like, op, feats ? "feats" : "shift");
  const int64_t channels = like.size(1);
  if (feats) check_rows_of(op, "feats", *feats, s.num_rows, channels);
  if (scale) check_rows_of(op, "scale", *scale, s.count, channels);
  if (shift) check_rows_of(op, "shift", *shift, s.count, channels);
  if (scale) check_dtype(*scale, accumulator_dtype(like.scalar_type()), op, "scale");
  if (shift) check_dtype(*shift, accumulator_dtype(like.scalar_type()), op, "shift");
  return channels;
}

}  // namespace pcperc
