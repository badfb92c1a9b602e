// SPDX-License-Identifier: Apache-2.0
#include "cpu/capability.h"

#include <torch/csrc/stable/library.h>

#include <atomic>
#include <string>

#include "common/check.h"

namespace pcperc {
namespace {

constexpr const char* kNames[] = {"base", "avx2", "avx512", "avx512_bf16"};

Capability detect() {
#ifdef PCPERC_X86
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Capability::kBase;
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (!has_avx512) return Capability::kAvx2;
  return __builtin_cpu_supports("avx512bf16") ? Capability::kAvx512Bf16 : Capability::kAvx512;
#else
  return Capability::kBase;
#endif
}

std::atomic<Capability>& current() {
  static std::atomic<Capability> capability{detect()};
  return capability;
}

std::string name_of_capability() { return kNames[static_cast<int>(cpu_capability())]; }

void set_capability(std::string name) {
  static const Capability best = detect();
  for (int i = 0; i <= static_cast<int>(best); ++i) {
    if (name == kNames[i]) return current().store(static_cast<Capability>(i));
  }
  const char* last = kNames[static_cast<int>(best)];
  value_error("set_cpu_capability: name must be one of base to ", last, " on this processor, got ", name);
}

}  // namespace

Capability cpu_capability() { return current().load(std::memory_order_relaxed); }

STABLE_TORCH_LIBRARY_IMPL(pcperc, CompositeExplicitAutograd, m) {
  m.impl("cpu_capability", TORCH_BOX(&name_of_capability));
  m.impl("set_cpu_capability", TORCH_BOX(&set_capability));
}

}  // namespace pcperc
