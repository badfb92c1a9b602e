// SPDX-License-Identifier: Apache-2.0
#include "cuda/sparse_conv_launch.cuh"

namespace pcperc {

PCPERC_CONVOLUTION(, __nv_bfloat16, true)

}  // namespace pcperc
