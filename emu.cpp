
#include <thread>
#include <vector>
#include <functional>
#include <pthread.h>
#include "weighted_gather.h"
#include "sparse_pool.h"
#include "common/dispatch.h"
#define __global__
#define __device__
#define __shared__ static
struct dim3{unsigned x,y,z;dim3(unsigned a=1,unsigned b=1,unsigned c=1):x(a),y(b),z(c){}};
thread_local dim3 threadIdx, blockIdx; dim3 blockDim_, gridDim_;
#define blockDim blockDim_
#define gridDim gridDim_
static pthread_barrier_t bar; static pthread_barrier_t wbar[64]; static double wval[1024];
void __syncthreads(){pthread_barrier_wait(&bar);}
template<class A> A __shfl_down_sync(unsigned, A v, int off){int t=threadIdx.x+threadIdx.y*blockDim.x; wval[t]=v; pthread_barrier_wait(&wbar[t/32]); A r=(t%32+off<32)?(A)wval[t+off]:v; pthread_barrier_wait(&wbar[t/32]); return r;}
template<class F> void run(dim3 g, dim3 b, F f){ blockDim_=b; gridDim_=g; int n=b.x*b.y; pthread_barrier_init(&bar,0,n); for(int w=0;w<(n+31)/32;++w) pthread_barrier_init(&wbar[w],0,std::min(32,n-32*w));
 std::vector<std::thread> ts; for(int t=0;t<n;++t) ts.emplace_back([=]{ threadIdx=dim3(t%b.x,t/b.x); for(unsigned k=0;k<g.x;++k){ blockIdx=dim3(k); f(); pthread_barrier_wait(&bar);} }); for(auto&t:ts)t.join(); }
namespace pcperc {
constexpr int kThreads=256;
inline unsigned grid_size(int64_t c,int t=kThreads){return std::max<int64_t>(1,std::min<int64_t>((c+t-1)/t,7));}
#define PCPERC_GRID_LOOP(index, count)                                                         \
  for (int64_t index = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; index < (count); \
       index += static_cast<int64_t>(gridDim.x) * blockDim.x)
#define PCPERC_CHANNEL_LOOP(row, channel, rows, channels)                                                \
  for (int64_t row = blockIdx.x * static_cast<int64_t>(blockDim.y) + threadIdx.y; row < (rows);           \
       row += static_cast<int64_t>(gridDim.x) * blockDim.y)                                               \
    for (int64_t channel = threadIdx.x; channel < (channels); channel += blockDim.x)
struct ChannelLaunch {
  dim3 block, grid;

  ChannelLaunch(int64_t rows, int64_t channels) {
    unsigned lanes = 1;
    while (lanes < channels && lanes < 128) lanes *= 2;
    block = dim3(lanes, kThreads / lanes);
    grid = dim3(grid_size(rows, block.y));
  }
};

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

template <class T>
__global__ void gather_kernel(const T* in, const int32_t* rows, const Accumulator<T>* weights, GatherSizes s, T* out) {
  using A = Accumulator<T>;
  PCPERC_CHANNEL_LOOP(p, c, s.num_points, s.channels) {
    A sum = 0;
#pragma unroll 4
    for (int64_t e = p * s.per_point; e < (p + 1) * s.per_point; ++e) {
      if (is_index(rows[e], s.num_rows)) sum += weights[e] * static_cast<A>(in[rows[e] * s.channels + c]);
    }
    out[p * s.channels + c] = static_cast<T>(sum);
  }
}

template <class T>
__global__ void scatter_kernel(const T* grad, const Accumulator<T>* weights, const int32_t* order, const int32_t* starts,
                               GatherSizes s, T* out) {
  using A = Accumulator<T>;
  const int64_t num_entries = s.num_points * s.per_point;
  PCPERC_CHANNEL_LOOP(m, c, s.num_rows, s.channels) {
    const EntryRange range = entries_within(starts[m], starts[m + 1], num_entries);
    A sum = 0;
#pragma unroll 4
    for (int64_t j = range.begin; j < range.end; ++j) {
      const int64_t e = order[j];
      if (is_index(e, num_entries)) sum += weights[e] * static_cast<A>(grad[e / s.per_point * s.channels + c]);
    }
    out[m * s.channels + c] = static_cast<T>(sum);
  }
}

template <class T>
__global__ void dot_kernel(const T* grad, const T* in, const int32_t* rows, GatherSizes s, Accumulator<T>* out) {
  using A = Accumulator<T>;
  const int lane = threadIdx.x % 32;
  const int64_t num_warps = static_cast<int64_t>(gridDim.x) * (blockDim.x / 32);
  for (int64_t e = blockIdx.x * static_cast<int64_t>(blockDim.x / 32) + threadIdx.x / 32; e < s.num_points * s.per_point;
       e += num_warps) {
    A sum = 0;
    if (is_index(rows[e], s.num_rows)) {
      const T *a = grad + e / s.per_point * s.channels, *b = in + rows[e] * s.channels;
      for (int64_t c = lane; c < s.channels; c += 32) sum += static_cast<A>(a[c]) * static_cast<A>(b[c]);
    }
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffffu, sum, offset);
    if (lane == 0) out[e] = sum;
  }
}

__global__ void neighbor_counts_kernel(const int32_t* table, int64_t volume, int64_t num_out, int64_t num_in, int32_t* counts) {
  PCPERC_GRID_LOOP(m, num_out) {
    int32_t count = 0;
    for (int64_t tap = 0; tap < volume; ++tap) count += is_index(table[tap * num_out + m], num_in);
    counts[m] = count;
  }
}

template <class T>
__global__ void sum_pool_kernel(const T* in, const int32_t* table, PoolSizes s, const int32_t* in_count,
                                const int32_t* out_count, T* out) {
  using A = Accumulator<T>;
  PCPERC_CHANNEL_LOOP(m, c, s.num_out, s.channels) {
    A sum = 0;
#pragma unroll 4
    for (int64_t tap = 0; tap < s.volume; ++tap) {
      const int64_t n = table[tap * s.num_out + m];
      if (!is_index(n, s.num_in)) continue;
      const A value = static_cast<A>(in[n * s.channels + c]);
      sum += in_count ? value / static_cast<A>(divisor(in_count, n)) : value;
    }
    out[m * s.channels + c] = static_cast<T>(out_count ? sum / static_cast<A>(divisor(out_count, m)) : sum);
  }
}

template <class T>
__global__ void max_pool_kernel(const T* in, const int32_t* table, PoolSizes s, T* out, int32_t* rows) {
  using A = Accumulator<T>;
  PCPERC_CHANNEL_LOOP(m, c, s.num_out, s.channels) {
    A best = 0;
    int32_t best_row = -1;
#pragma unroll 4
    for (int64_t tap = 0; tap < s.volume; ++tap) {
      const int32_t n = table[tap * s.num_out + m];
      if (!is_index(n, s.num_in)) continue;
      const A value = static_cast<A>(in[n * s.channels + c]);
      if (best_row < 0 || replaces_max(value, best)) best = value, best_row = n;
    }
    out[m * s.channels + c] = static_cast<T>(best);
    rows[m * s.channels + c] = best_row;
  }
}

template <class T>
__global__ void max_unpool_kernel(const T* in, const int32_t* rows, const int32_t* table, PoolSizes s, T* out) {
  using A = Accumulator<T>;
  PCPERC_CHANNEL_LOOP(n, c, s.num_in, s.channels) {
    A sum = 0;
#pragma unroll 4
    for (int64_t tap = 0; tap < s.volume; ++tap) {
      const int64_t m = table[tap * s.num_in + n];
      if (is_index(m, s.num_out) && rows[m * s.channels + c] == n) sum += static_cast<A>(in[m * s.channels + c]);
    }
    out[n * s.channels + c] = static_cast<T>(sum);
  }
}

template <class T>
__global__ void max_take_kernel(const T* in, const int32_t* rows, PoolSizes s, T* out) {
  PCPERC_CHANNEL_LOOP(m, c, s.num_out, s.channels) {
    const int64_t i = m * s.channels + c;
    out[i] = is_index(rows[i], s.num_in) ? in[rows[i] * s.channels + c] : T(0.f);
  }
}


}
using namespace pcperc;
extern "C" {
void seg_dot(const float*x,const float*y,const int*index,const int*order,const int*starts,long S,long M,long C,float*out){
 LongSegments s{index,order,starts,S,M}; std::vector<Sum<float>> part(s.num_slots()*C+1,Sum<float>{NAN}); SumOfRows<float> src{x,y}; long tiles=(C+31)/32;
 run(dim3(grid_size(s.num_slots()*tiles,1)),dim3(kLanes,kRows),[&]{reduce_chunks_kernel(src,s,C,part.data());});
 run(dim3(grid_size(S*tiles,1)),dim3(kLanes,kRows),[&]{reduce_segments_kernel(part.data(),s,C,out,(int*)nullptr);});}
void seg_max(const float*x,const int*index,const int*order,const int*starts,long S,long M,long C,float*out,int*rows){
 LongSegments s{index,order,starts,S,M}; std::vector<Max<float>> part(s.num_slots()*C+1,Max<float>{NAN,7777777}); MaxOfRows<float> src{x}; long tiles=(C+31)/32;
 run(dim3(grid_size(s.num_slots()*tiles,1)),dim3(kLanes,kRows),[&]{reduce_chunks_kernel(src,s,C,part.data());});
 run(dim3(grid_size(S*tiles,1)),dim3(kLanes,kRows),[&]{reduce_segments_kernel(part.data(),s,C,out,rows);});}
void affine(const float*x,const float*a,const float*b,const int*index,long S,long M,long C,float*out){
 LongSegments s{index,nullptr,nullptr,S,M}; ChannelLaunch l(M,C); run(l.grid,l.block,[&]{affine_kernel<float>(x,a,b,s,C,out);});}
void gather(const float*f,const int*rows,const float*w,long P,long J,long M,long C,float*out){ GatherSizes s{P,J,M,C}; ChannelLaunch l(P,C); run(l.grid,l.block,[&]{gather_kernel<float>(f,rows,w,s,out);});}
void scatter(const float*g,const float*w,const int*order,const int*starts,long P,long J,long M,long C,float*out){ GatherSizes s{P,J,M,C}; ChannelLaunch l(M,C); run(l.grid,l.block,[&]{scatter_kernel<float>(g,w,order,starts,s,out);});}
void gdot(const float*g,const float*f,const int*rows,long P,long J,long M,long C,float*out){ GatherSizes s{P,J,M,C}; run(dim3(grid_size(P*J*32)),dim3(256),[&]{dot_kernel<float>(g,f,rows,s,out);});}
void counts(const int*t,long K,long M,long N,int*out){run(dim3(grid_size(M)),dim3(256),[&]{neighbor_counts_kernel(t,K,M,N,out);});}
void sumpool(const float*f,const int*t,long N,long M,long K,long C,const int*ic,const int*oc,float*out){PoolSizes s{N,M,K,C}; ChannelLaunch l(M,C); run(l.grid,l.block,[&]{sum_pool_kernel<float>(f,t,s,ic,oc,out);});}
void maxpool(const float*f,const int*t,long N,long M,long K,long C,float*out,int*rows){PoolSizes s{N,M,K,C}; ChannelLaunch l(M,C); run(l.grid,l.block,[&]{max_pool_kernel<float>(f,t,s,out,rows);});}
void unpool(const float*f,const int*rows,const int*rev,long N,long M,long K,long C,float*out){PoolSizes s{N,M,K,C}; ChannelLaunch l(N,C); run(l.grid,l.block,[&]{max_unpool_kernel<float>(f,rows,rev,s,out);});}
void take(const float*f,const int*rows,long N,long M,long K,long C,float*out){PoolSizes s{N,M,K,C}; ChannelLaunch l(M,C); run(l.grid,l.block,[&]{max_take_kernel<float>(f,rows,s,out);});}
}
