// SPDX-License-Identifier: Apache-2.0
// Furthest point sampling: each next sample of a cloud is the point whose nearest sample so far is furthest away.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <limits>

#include "common/buffer.h"
#include "common/parallel.h"
#include "neighbors.h"

namespace pcperc {
namespace {

// nearest[entry] is the squared distance to the nearest sample, -1 for one that is a sample itself or no point.
template <class T>
void sample_cloud(const Clouds<T>& clouds, int64_t cloud, int64_t num_samples, T* nearest, int32_t* samples) {
  const EntryRange range = clouds.entries(cloud);
  int64_t chosen = -1;
  for (int64_t entry = range.begin; entry < range.end; ++entry) {
    nearest[entry] = clouds.row(entry) >= 0 ? std::numeric_limits<T>::infinity() : T{-1};
    if (chosen < 0 && nearest[entry] >= 0) chosen = entry;
  }
  int64_t taken = 0;
  for (; taken < num_samples && chosen >= 0; ++taken) {
    samples[taken] = clouds.order[chosen];
    nearest[chosen] = T{-1};
    const T* last = clouds.points + 3 * int64_t{samples[taken]};
    T furthest = T{-1};
    chosen = -1;
    for (int64_t entry = range.begin; entry < range.end; ++entry) {
      if (nearest[entry] < 0) continue;
      nearest[entry] = std::min(nearest[entry], squared_distance(clouds.points + 3 * int64_t{clouds.order[entry]}, last));
      if (nearest[entry] > furthest) furthest = nearest[chosen = entry];
    }
  }
  std::fill(samples + taken, samples + num_samples, -1);
}

Tensor furthest_point_sample(const Tensor& points, const Tensor& order, const Tensor& starts, int64_t num_samples) {
  check_clouds("furthest_point_sample", points, order, starts);
  STD_TORCH_CHECK(num_samples >= 0, "furthest_point_sample: num_samples must be >= 0, got ", num_samples);
  const int64_t count = starts.numel() - 1;
  Tensor out = torch::stable::new_empty(points, {count, num_samples}, ScalarType::Int);
  int32_t* samples = out.mutable_data_ptr<int32_t>();
  dispatch_positions(points.scalar_type(), "furthest_point_sample", [&](auto zero) {
    using T = decltype(zero);
    const Clouds<T> clouds = clouds_of<T>(points, order, starts);
    const auto nearest = new_buffer<T>(clouds.num_points);
    parallel_queue(count, [&](int64_t cloud) {
      sample_cloud(clouds, cloud, num_samples, nearest.get(), samples + cloud * num_samples);
    });
  });
  return out;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) { m.impl("furthest_point_sample", TORCH_BOX(&pcperc::furthest_point_sample)); }
