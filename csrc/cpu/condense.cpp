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

template <class T>
struct Condensation {
  Clouds<T> clouds;
  const T* beta;
  int64_t columns;
  T limit, min_beta;
  int32_t* centre;  // of each row, -1 where it is free

  void run(int64_t cloud) const {
    std::vector<int32_t> free;  // by falling beta, those without one in front
    const EntryRange range = clouds.entries(cloud);
    for (int64_t entry = range.begin; entry < range.end; ++entry) {
      if (const int32_t row = clouds.row_at(entry); row >= 0) free.push_back(row);
    }
    const auto is_candidate = [&](int32_t row) { return beta[row] > min_beta; };
    for (auto next = std::find_if(free.begin(), free.end(), is_candidate); next != free.end();
         next = std::find_if(free.begin(), free.end(), is_candidate)) {
      take(*next, free);
    }
  }

 private:
  // Make `row` a centre; what it takes leaves `free`.
  void take(int32_t row, std::vector<int32_t>& free) const {
    const T* place = clouds.points + columns * row;
    centre[row] = row;
    const auto is_taken = [&](int32_t other) {
      if (other == row) return true;
      const bool near = squared_distance(clouds.points + columns * other, place, columns) < limit;
      if (near) centre[other] = row;
      return near;
    };
    free.erase(std::remove_if(free.begin(), free.end(), is_taken), free.end());
  }
};

Tensor condense(const Tensor& points, const Tensor& beta, const Tensor& order, const Tensor& starts, double radius,
                double min_beta) {
  check_condense(points, beta, order, starts, radius);
  Tensor centre = torch::stable::new_empty(points, {points.size(0)}, ScalarType::Int);
  torch::stable::fill_(centre, -1);
  dispatch_positions(points.scalar_type(), "condense", [&](auto zero) {
    using T = decltype(zero);
    const Condensation<T> work{clouds_of<T>(points, order, starts), beta.const_data_ptr<T>(), points.size(1),
                               static_cast<T>(radius * radius), static_cast<T>(min_beta), centre.mutable_data_ptr<int32_t>()};
    parallel_rows(work.clouds.count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t cloud = begin; cloud < end; ++cloud) work.run(cloud);
    });
  });
  return centre;
}

}  // namespace
}  // namespace pcperc

STABLE_TORCH_LIBRARY_IMPL(pcperc, CPU, m) { m.impl("condense", TORCH_BOX(&pcperc::condense)); }
