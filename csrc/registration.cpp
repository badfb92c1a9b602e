// SPDX-License-Identifier: Apache-2.0
// The schema of every operator: the table of contents of the backend.
// Kernels register themselves in csrc/cpu/<op>.cpp and csrc/cuda/<op>.cu; fake kernels and autograd in pcperc/ops/<op>.py.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(pcperc, m) {
  // Sparse convolution: topology, then features.

  // Points and boxes.
}
