// SPDX-License-Identifier: Apache-2.0
// Reductions over long segments of rows, and what is spread back over their rows.
//
// One block a chunk and 32 channels: its threads take every eighth row, and their results are combined in a fixed tree. A
// second kernel does the same with the results of each segment's chunks. No atomics, so results repeat bit for bit.
#include "segment_reduce.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/dispatch.h"
#include "common/launch.cuh"

namespace pcperc {
namespace {

constexpr int kLanes = 32, kRows = 8;

// Combine the values that the threads of a column (equal threadIdx.x) hold; the result is in the first row.
template <class V>
__device__ V combine_column(V value) {
  __shared__ V values[kRows][kLanes];
  for (int half = kRows / 2; half > 0; half /= 2) {
    values[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    if (threadIdx.y < half) value.add(values[threadIdx.y + half][threadIdx.x]);
    __syncthreads();
  }
  return value;
}

template <class A>
struct Sum {
  A value;

  __device__ static Sum none() { return {A(0)}; }
  __device__ void add(const Sum& other) { value += other.value; }
};

// The larger value is better, NaN is better than any number, and of equals the lower row: the order does not matter.
template <class A>
struct Max {
  A value;
  int32_t row;  // -1: nothing yet

  __device__ static Max none() { return {A(0), -1}; }
  __device__ void add(const Max& other) {
    if (other.row < 0) return;
    const bool is_nan = value != value, other_is_nan = other.value != other.value;
    const bool is_equal = is_nan ? other_is_nan : other.value == value;
    const bool is_larger = !is_nan && (other_is_nan || other.value > value);
    if (row < 0 || is_larger || (is_equal && other.row < row)) *this = other;
  }
};

template <class T>
struct SumOfRows {
  using Value = Sum<Accumulator<T>>;
  const T *x, *y;  // y may be null

  __device__ Value operator()(int64_t i, int32_t /* row */) const {
    const auto value = static_cast<Accumulator<T>>(x[i]);
    return {y ? value * static_cast<Accumulator<T>>(y[i]) : value};
  }
};

template <class T>
struct MaxOfRows {
  using Value = Max<Accumulator<T>>;
  const T* x;

  __device__ Value operator()(int64_t i, int32_t row) const { return {static_cast<Accumulator<T>>(x[i]), row}; }
};

template <class Source>
__global__ void reduce_chunks_kernel(Source source, LongSegments s, int64_t channels, typename Source::Value* partial) {
  using Value = typename Source::Value;
  const int64_t num_tiles = (channels + kLanes - 1) / kLanes;
  for (int64_t unit = blockIdx.x; unit < s.num_slots() * num_tiles; unit += gridDim.x) {
    const int64_t slot = unit / num_tiles, c = unit % num_tiles * kLanes + threadIdx.x;
    const EntryRange range = s.chunk(slot);
    Value value = Value::none();
#pragma unroll 4
    for (int64_t j = range.begin + threadIdx.y; j < range.end; j += kRows) {
      const int32_t row = s.order[j];
      if (c < channels && is_index(row, s.num_rows)) value.add(source(row * channels + c, row));
    }
    value = combine_column(value);
    if (threadIdx.y == 0 && c < channels) partial[slot * channels + c] = value;
  }
}

__device__ void write(const Sum<double>& from, double* value, int32_t*) { *value = from.value; }
__device__ void write(const Sum<float>& from, float* value, int32_t*) { *value = from.value; }
template <class A, class T>
__device__ void write(const Max<A>& from, T* value, int32_t* row) {
  *value = static_cast<T>(from.value);
  *row = from.row;
}

template <class Value, class Out>
__global__ void reduce_segments_kernel(const Value* partial, LongSegments s, int64_t channels, Out* out, int32_t* rows) {
  const int64_t num_tiles = (channels + kLanes - 1) / kLanes;
  for (int64_t unit = blockIdx.x; unit < s.count * num_tiles; unit += gridDim.x) {
    const int64_t i = unit / num_tiles, c = unit % num_tiles * kLanes + threadIdx.x;
    const int64_t first = s.first_slot(i), last = first + s.num_chunks(i);
    Value value = Value::none();
#pragma unroll 4
    for (int64_t slot = first + threadIdx.y; slot < last; slot += kRows) {
      if (c < channels) value.add(partial[slot * channels + c]);
    }
    value = combine_column(value);
    if (threadIdx.y == 0 && c < channels) write(value, out + i * channels + c, rows + i * channels + c);
  }
}

template <class Source, class Out>
void reduce(const Source& source, const LongSegments& s, int64_t channels, const Tensor& like, cudaStream_t stream, Out* out,
            int32_t* rows) {
  using Value = typename Source::Value;
  const int64_t num_tiles = (channels + kLanes - 1) / kLanes;
  const int64_t bytes = s.num_slots() * channels * static_cast<int64_t>(sizeof(Value));
  const Tensor workspace = empty_on(like, {bytes}, ScalarType::Byte);
  auto* partial = static_cast<Value*>(workspace.data_ptr());
  const dim3 block(kLanes, kRows);
  reduce_chunks_kernel<<<grid_size(s.num_slots() * num_tiles, 1), block, 0, stream>>>(source, s, channels, partial);
  PCPERC_LAUNCH_CHECK();
  reduce_segments_kernel<<<grid_size(s.count * num_tiles, 1), block, 0, stream>>>(partial, s, channels, out, rows);
  PCPERC_LAUNCH_CHECK();
}

template <class T>
__global__ void affine_kernel(const T* x, const Accumulator<T>* scale, const Accumulator<T>* shift, LongSegments s,
                              int64_t channels, T* out) {
  using A = Accumulator<T>;
  PCPERC_CHANNEL_LOOP(m, c, s.num_rows, channels) {
    const int64_t i = s.index[m];
    const bool is_in = is_index(i, s.count);
    A value = is_in && x ? static_cast<A>(x[m * channels + c]) : A(0);
    if (is_in && scale) value *= scale[i * channels + c];
    if (is_in && shift) value += shift[i * channels + c];
    out[m * channels + c] = static_cast<T>(value);
  }
}

Tensor segment_dot(Tensor feats, std::optional<Tensor> factor, const Tensor& index, const Tensor& order,
                   const Tensor& starts) {
  constexpr const char* op = "segment_dot";
  const CudaScope scope(feats);
  feats = as_contiguous(feats);
  if (factor) factor = as_contiguous(*factor);
  const LongSegments s = check_dot(op, feats, factor, index, order, starts);
  check_one_device(op, {feats, index, order, starts, factor.value_or(feats)});
  const int64_t channels = feats.size(1);
  const Tensor result = empty_on(feats, {s.count, channels}, accumulator_dtype(feats.scalar_type()));
  if (result.numel() == 0) return result;
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    const SumOfRows<T> source{feats.const_data_ptr<T>(), factor ? factor->const_data_ptr<T>() : nullptr};
    reduce(source, s, channels, feats, scope.stream(), result.mutable_data_ptr<Accumulator<T>>(), nullptr);
  });
  return result;
}

std::tuple<Tensor, Tensor> segment_max(Tensor feats, const Tensor& index, const Tensor& order, const Tensor& starts) {
  constexpr const char* op = "segment_max";
  const CudaScope scope(feats);
  feats = as_contiguous(feats);
  const LongSegments s = check_dot(op, feats, std::nullopt, index, order, starts);
  check_one_device(op, {feats, index, order, starts});
  const int64_t channels = feats.size(1);
  const Tensor values = empty_on(feats, {s.count, channels}, feats.scalar_type());
  const Tensor rows = empty_on(feats, {s.count, channels}, ScalarType::Int);
  if (values.numel() == 0) return {values, rows};
  dispatch_float(feats.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    reduce(MaxOfRows<T>{feats.const_data_ptr<T>()}, s, channels, feats, scope.stream(), values.mutable_data_ptr<T>(),
           rows.mutable_data_ptr<int32_t>());
  });
  return {values, rows};
}

Tensor segment_affine(std::optional<Tensor> feats, std::optional<Tensor> scale, std::optional<Tensor> shift,
                      const Tensor& index, const Tensor& order, const Tensor& starts) {
  constexpr const char* op = "segment_affine";
  const CudaScope scope(index);
  const LongSegments s = check_long_segments(op, index, order, starts);
  const int64_t channels = check_affine(op, feats, scale, shift, s);
  const Tensor like = feats ? *feats : *shift;
  check_one_device(op, {index, order, starts, like, scale.value_or(like), shift.value_or(like)});
  const Tensor result = empty_on(like, {s.num_rows, channels}, like.scalar_type());
  if (result.numel() == 0) return result;
  dispatch_float(like.scalar_type(), op, [&](auto zero) {
    using T = decltype(zero);
    using A = Accumulator<T>;
    const ChannelLaunch launch(s.num_rows, channels);
    affine_kernel<<<launch.grid, launch.block, 0, scope.stream()>>>(
        feats ? feats->const_data_ptr<T>() : nullptr, scale ? scale->const_data_ptr<A>() : nullptr,
        shift ? shift->const_data_ptr<A>() : nullptr, s, channels, result.mutable_data_ptr<T>());
  });
  PCPERC_LAUNCH_CHECK();
  return result;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CUDA, m) {
  m.impl("segment_dot", TORCH_BOX(&pcperc::segment_dot));
  m.impl("segment_max", TORCH_BOX(&pcperc::segment_max));
  m.impl("segment_affine", TORCH_BOX(&pcperc::segment_affine));
}
