// SPDX-License-Identifier: Apache-2.0
// The schema of every operator: the table of contents of the backend.
// Kernels register themselves in csrc/cpu/<op>.cpp and csrc/cuda/<op>.cu; fake kernels and autograd in pcperc/ops/<op>.py.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(pcperc, m) {
  // Sparse convolution: topology, then features.
  // The distinct rows of coords (N, 4) sorted by key; for each row of coords its row in them; how often each occurs.
  m.def("unique_coords(Tensor coords) -> (Tensor, Tensor, Tensor)");
  // The output coordinates of a strided convolution, sorted by key; an empty spatial_shape is an unbounded lattice.
  m.def(
      "downsample_coords(Tensor coords, int[] kernel_size, int[] stride, int[] padding, int[] dilation, "
      "SymInt[] spatial_shape) -> Tensor");
  // Neighbour table (K, M_out): the input row under each tap of each output row, or -1.
  m.def(
      "build_kernel_map(Tensor in_coords, Tensor out_coords, int[] kernel_size, int[] stride, int[] padding, "
      "int[] dilation) -> Tensor");
  // The table of the opposite direction (K, num_inputs): the output row that each input row feeds under each tap, or -1.
  m.def("reverse_kernel_map(Tensor neighbors, SymInt num_inputs) -> Tensor");
  // out[m] = bias + sum over taps k of feats[neighbors[k, m]] @ weight[k].
  m.def(
      "sparse_conv(Tensor feats, Tensor weight, Tensor neighbors, Tensor reverse_neighbors, Tensor? bias) -> Tensor");
  // Gradients of sparse_conv with respect to weight (K, Cin, Cout) and, where asked for, bias (else an empty tensor).
  m.def(
      "sparse_conv_weight_grad(Tensor feats, Tensor grad_output, Tensor neighbors, Tensor reverse_neighbors, "
      "bool with_bias) -> (Tensor, Tensor)");

  // Points and boxes.
}
