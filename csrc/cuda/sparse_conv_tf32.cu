// SPDX-License-Identifier: Apache-2.0
#include "cuda/sparse_conv_launch.cuh"

namespace pcperc {

PCPERC_CONVOLUTION(, float, true)

}  // namespace pcperc
