// SPDX-License-Identifier: Apache-2.0
#pragma once
// How kernels of batch norm deal out rows, and how they add them up. A thread keeps its columns: one vector of 16 bytes of each
// of its rows, neighbouring threads neighbouring vectors. Rows are cut into runs; the sums of a run meet in shared memory, the
// runs are added behind them, each in an order that depends on M and C alone: how many blocks there are, which is up to the GPU,
// says only which of them does the work.
#include <type_traits>

#include "cuda/grid_barrier.cuh"

namespace pcperc {

constexpr int kGroups = 32;  // of runs: a group adds every 32nd one, then halves of the groups meet
constexpr int kChannelsAtOnce = kThreads / kGroups;  // of a block that adds runs: together a whole sector of 32 bytes

// kWidth values that are read and written at once.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Vector {
  T values[kWidth];
};

template <class T, int kWidth>
__device__ __forceinline__ Vector<T, kWidth> vector_at(const T* data, int64_t offset) {
  // As memory that nothing writes, so that loads may run ahead of the stores of earlier rows.
  using Bits = std::conditional_t<
      sizeof(T) * kWidth == 16, uint4,
      std::conditional_t<sizeof(T) == 8, unsigned long long, std::conditional_t<sizeof(T) == 4, unsigned, unsigned short>>>;
  union {
    Bits bits;
    Vector<T, kWidth> vector;
  } loaded = {__ldg(reinterpret_cast<const Bits*>(data + offset))};
  return loaded.vector;
}

template <class T, int kWidth>
__device__ __forceinline__ void put_vector(T* data, int64_t offset, const Vector<T, kWidth>& vector) {
  *reinterpret_cast<Vector<T, kWidth>*>(data + offset) = vector;
}

// Rows are cut into `runs`, columns into tiles of `columns` vectors. A block of threads works on a piece, a run of a tile,
// `lanes` rows at a time.
struct RowLayout {
  int64_t rows, channels;
  int columns, lanes, rows_per_run, runs, pieces;

  RowLayout(int64_t rows, int64_t channels, int width, int bytes, int64_t bytes_per_run, int64_t most_runs)
      : rows(rows), channels(channels) {
    const int64_t vectors = channels / width;
    columns = static_cast<int>(std::min<int64_t>(vectors, kThreads));
    lanes = kThreads / columns;
    const int64_t wanted = std::clamp<int64_t>(rows * columns * width * bytes / bytes_per_run, 1, most_runs);
    rows_per_run = static_cast<int>((rows + wanted - 1) / wanted);
    runs = static_cast<int>((rows + rows_per_run - 1) / rows_per_run);
    pieces = runs * static_cast<int>((vectors + columns - 1) / columns);
  }

  // Blocks of a kernel of all phases that have something to do, if the GPU holds as many.
  int64_t blocks() const { return std::max<int64_t>(pieces, (channels + kChannelsAtOnce - 1) / kChannelsAtOnce); }
  // A block takes every gridDim.x-th piece from that of its own number on; the last one, or less than 0.
  __device__ int last_piece() const {
    const int first = blockIdx.x, step = gridDim.x;
    return first < pieces ? first + (pieces - 1 - first) / step * step : -1;
  }
};

// What one thread has to do in a piece.
struct ThreadRows {
  int run, lane, lanes, count;  // `count` rows: `begin`, `begin` + `lanes`, ...
  bool is_active;
  int64_t channel, first, begin, end;  // the run is the rows `first` to `end`

  __device__ ThreadRows(const RowLayout& layout, int width, int piece) : lanes(layout.lanes) {
    const int column = static_cast<int>(threadIdx.x) % layout.columns, tile = piece / layout.runs;
    run = piece - tile * layout.runs;
    lane = static_cast<int>(threadIdx.x) / layout.columns;
    channel = (static_cast<int64_t>(tile) * layout.columns + column) * width;
    is_active = lane < lanes && channel < layout.channels;
    first = static_cast<int64_t>(run) * layout.rows_per_run;
    begin = first + lane;
    end = min(first + layout.rows_per_run, layout.rows);
    count = (static_cast<int>(end - begin) + lanes - 1) / lanes;  // of an active thread; it may be 0
  }

  // use(row, load(row)) for each row, with the loads of kAhead rows under way at once: no branch lies between them.
  template <int kAhead, class Load, class Use>
  __device__ __forceinline__ void each(const Load& load, const Use& use) const {
    walk<kAhead>(begin, lanes, load, use);
  }
  // From the last row to the first.
  template <int kAhead, class Load, class Use>
  __device__ __forceinline__ void each_backwards(const Load& load, const Use& use) const {
    walk<kAhead>(begin + static_cast<int64_t>(count - 1) * lanes, -lanes, load, use);
  }

 private:
  template <int kAhead, class Load, class Use>
  __device__ __forceinline__ void walk(int64_t row, int64_t step, const Load& load, const Use& use) const {
    int left = count;
    for (; left >= kAhead; left -= kAhead, row += kAhead * step) {
      decltype(load(row)) loaded[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) loaded[i] = load(row + i * step);
#pragma unroll
      for (int i = 0; i < kAhead; ++i) use(row + i * step, loaded[i]);
    }
#pragma unroll 1
    for (; left > 0; --left, row += step) use(row, load(row));
  }
};

// Shared memory of a block: two sums for each channel of each thread.
template <class A, int kWidth>
using Scratch = A[2 * kWidth][kThreads];

// Add the two sums that each thread has for each of its channels over the lanes; those of lane 0 are then whole.
template <int kWidth, class A>
__device__ __forceinline__ void add_lanes(const RowLayout& layout, int lane, Scratch<A, kWidth>& shared, A (&first)[kWidth],
                                          A (&second)[kWidth]) {
  __syncthreads();  // the sums of an earlier piece have been read
#pragma unroll
  for (int v = 0; v < kWidth; ++v) shared[v][threadIdx.x] = first[v], shared[kWidth + v][threadIdx.x] = second[v];
  for (int count = layout.lanes; count > 1;) {
    const int half = (count + 1) / 2;
    __syncthreads();
    if (lane + half < count) {  // lanes that are not used begin behind layout.lanes
      const int other = threadIdx.x + half * layout.columns;
#pragma unroll
      for (int v = 0; v < 2 * kWidth; ++v) shared[v][threadIdx.x] += shared[v][other];
    }
    count = half;
  }
#pragma unroll
  for (int v = 0; v < kWidth; ++v) first[v] = shared[v][threadIdx.x], second[v] = shared[kWidth + v][threadIdx.x];
}

// The sum over all runs, by all threads of a block: thread (group, channel) adds those of its group for its channel, by
// sum = f(sum, run). It reads eight runs at once; for those behind the last one it reads the last one, and forgets the sum.
template <class A, class F>
__device__ __forceinline__ A add_runs(int runs, A* shared, const F& f) {  // shared: (kThreads,)
  constexpr int kAhead = 8;
  const int thread = threadIdx.x;
  A sum = 0;
  for (int begin = thread / kChannelsAtOnce; begin < runs; begin += kAhead * kGroups) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int run = begin + i * kGroups;
      const A next = f(sum, min(run, runs - 1));
      sum = run < runs ? next : sum;
    }
  }
  shared[thread] = sum;
  for (int half = kThreads / 2; half >= kChannelsAtOnce; half /= 2) {
    __syncthreads();
    if (thread < half) shared[thread] += shared[thread + half];
  }
  __syncthreads();
  sum = shared[thread % kChannelsAtOnce];
  __syncthreads();
  return sum;
}

// find(c, is_first) for each channel, by all threads of some block, of which one of each channel is the first.
template <class Find>
__device__ __forceinline__ void for_each_channel(int64_t channels, const Find& find) {
  const int64_t step = int64_t{gridDim.x} * kChannelsAtOnce;
  for (int64_t first = int64_t{blockIdx.x} * kChannelsAtOnce; first < channels; first += step) {
    const int64_t c = first + threadIdx.x % kChannelsAtOnce;
    find(min(c, channels - 1), threadIdx.x < kChannelsAtOnce && c < channels);
  }
}

}  // namespace pcperc
