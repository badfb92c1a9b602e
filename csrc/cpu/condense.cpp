// SPDX-License-Identifier: Apache-2.0
// Condensation of points: each centre walks over the points of its cloud that are still free.
#include "condense.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <vector>

#include "common/parallel.h"

namespace pcperc {
namespace {

// Make `row` a centre; what it takes leaves `free`.
template <class T>
void take(const Condensation<T>& work, int32_t row, std::vector<int32_t>& free) {
  const T* place = work.clouds.points + work.columns * row;
  work.centre[row] = row;
  const auto is_taken = [&](int32_t other) {
    if (other == row) return true;
    const bool near = squared_distance(work.clouds.points + work.columns * other, place, work.columns) < work.limit;
    if (near) work.centre[other] = row;
    return near;
  };
  free.erase(std::remove_if(free.begin(), free.end(), is_taken), free.end());
}

template <class T>
void condense_cloud(const Condensation<T>& work, int64_t cloud) {
  std::vector<int32_t> free;  // by falling beta, those that are no number in front
  const EntryRange range = work.clouds.entries(cloud);
  for (int64_t entry = range.begin; entry < range.end; ++entry) {
    if (const int32_t row = work.clouds.row_at(entry); row >= 0) free.push_back(row);
  }
  const auto is_candidate = [&](int32_t row) { return work.beta[row] > work.min_beta; };
  for (auto next = std::find_if(free.begin(), free.end(), is_candidate); next != free.end();
       next = std::find_if(free.begin(), free.end(), is_candidate)) {
    take(work, *next, free);
  }
}

Tensor condense(const Tensor& points, const Tensor& beta, const Tensor& order, const Tensor& starts, double radius,
                double min_beta) {
  check_condense(points, beta, order, starts, radius);
  Tensor centre = torch::stable::new_empty(points, {points.size(0)}, ScalarType::Int);
  torch::stable::fill_(centre, -1);
  dispatch_positions(points.scalar_type(), "condense", [&](auto zero) {
    using T = decltype(zero);
    const Condensation<T> work(points, beta, order, starts, radius, min_beta, centre);
    parallel_rows(work.clouds.count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t cloud = begin; cloud < end; ++cloud) condense_cloud(work, cloud);
    });
  });
  return centre;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) { m.impl("condense", TORCH_BOX(&pcperc::condense)); }
