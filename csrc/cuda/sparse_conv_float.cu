// SPDX-License-Identifier: Apache-2.0
#include "cuda/sparse_conv_launch.cuh"

namespace pcperc {

PCPERC_CONVOLUTION(, float, false)
PCPERC_CONVOLUTION(, double, false)

}  // namespace pcperc
