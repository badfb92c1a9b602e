// SPDX-License-Identifier: Apache-2.0
// The table of the current GPU, and what it and the rules choose.
#include <dlfcn.h>
#include <torch/csrc/stable/library.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <tuple>

#include "cuda/selection_file.h"
#include "cuda/sparse_conv_launch.cuh"

namespace pcperc {
namespace {

// pcperc/ops/selection, beside this library. Found when it is loaded: the name it was loaded by may be relative to a folder that
// the program leaves later.
std::string find_package_folder() {
  Dl_info library;
  if (dladdr(reinterpret_cast<const void*>(&find_package_folder), &library) == 0) return {};
  return std::filesystem::absolute(library.dli_fname).parent_path() / "ops/selection";
}
const std::string kPackageFolder = find_package_folder();

// As pcperc/benchmark/selection.py names it. Models that agree in this (H100 SXM, H200 and GH200 do) share a table.
std::string current_gpu() {
  int device = 0, major = 0, minor = 0;
  PCPERC_CUDA_CHECK(cudaGetDevice(&device));
  PCPERC_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  PCPERC_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  const int multiprocessors = device_attribute<cudaDevAttrMultiProcessorCount>();
  return "sm_" + std::to_string(major) + std::to_string(minor) + "_" + std::to_string(multiprocessors);
}

// A file that cannot be read is an error of every convolution until it can.
const SelectionTable& read_table_once() {
  static std::mutex mutex;
  static std::map<std::string, SelectionTable> tables;  // by GPU; entries stay where they are
  const std::string gpu = current_gpu();
  const std::lock_guard lock(mutex);
  const auto found = tables.find(gpu);
  if (found != tables.end()) return found->second;
  const char* const own = std::getenv("PCPERC_SELECTION");
  return tables.emplace(gpu, load_selection(gpu, own == nullptr ? "" : own, kPackageFolder)).first->second;
}

// The kernel and blocks for rows that start on 16 bytes, of the pass and dtype that a table calls so.
std::tuple<int64_t, int64_t> chosen_conv_kernel(std::string pass, std::string dtype, int64_t rows, int64_t in_channels,
                                                int64_t out_channels, int64_t taps) {
  const ConvShape shape(ConvSizes{rows, rows, taps, in_channels, out_channels, 1});
  const auto choose = [&](auto value) -> std::tuple<int64_t, int64_t> {
    using T = decltype(value);
    if (pass == "forward") {
      const ConvChoice choice = choose_kernel<T>(shape);
      return {choice.kernel, choice.splits};
    }
    const WeightGradChoice choice = choose_weight_grad(problem_of<T>(shape), selection_table());
    return {choice.tile, choice.blocks};
  };
  STD_TORCH_CHECK(pass == "forward" || pass == "weight_grad", "chosen_conv_kernel: pass_name must be forward or weight_grad, got ", pass);
  if (dtype == "float16") return choose(__half{});
  if (dtype == "bfloat16") return choose(__nv_bfloat16{});
  STD_TORCH_CHECK(dtype == "tf32", "chosen_conv_kernel: dtype must be float16, bfloat16 or tf32, got ", dtype);
  return choose(float{});
}

}  // namespace

const SelectionTable& selection_table() {
  static std::array<std::atomic<const SelectionTable*>, 64> known{};
  int device = 0;
  PCPERC_CUDA_CHECK(cudaGetDevice(&device));
  if (device >= static_cast<int>(known.size())) return read_table_once();
  const SelectionTable* table = known[device].load(std::memory_order_acquire);
  if (table == nullptr) known[device].store(table = &read_table_once(), std::memory_order_release);
  return *table;
}

STABLE_TORCH_LIBRARY_IMPL(pcperc, CompositeExplicitAutograd, m) {
  m.impl("chosen_conv_kernel", TORCH_BOX(&chosen_conv_kernel));
}

}  // namespace pcperc
