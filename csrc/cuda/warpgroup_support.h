// SPDX-License-Identifier: Apache-2.0
#pragma once
// Whether the current GPU runs the kernels of the *_warpgroup.cu sources, which setup.py compiles for sm_90a alone.
#include "cuda/device_attribute.h"

namespace pcperc {

inline bool has_warpgroup_products() { return device_attribute<cudaDevAttrComputeCapabilityMajor>() == 9; }

}  // namespace pcperc
