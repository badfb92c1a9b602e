// SPDX-License-Identifier: Apache-2.0
// The schema of every operator: the table of contents of the backend.
// Kernels register themselves in csrc/cpu/<op>.cpp and csrc/cuda/<op>.cu; fake kernels and autograd in pcperc/ops/<op>.py.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(pcperc, m) {
  // Sparse convolution: topology, then features. Rows of coords whose batch index is -1 are padding: all operators pass over them.
  // The lowest value of each column of coords (N, 1 + D), then the highest: 2 + 2 D numbers, for which a GPU is waited.
  m.def("coords_extent(Tensor coords) -> int[]");
  // The distinct rows of coords (N, 1 + D) sorted by key; for each row of coords its row in them; how often each occurs.
  m.def("unique_coords(Tensor coords) -> (Tensor, Tensor, Tensor)");
  // The output coordinates of a strided convolution, sorted by key; those outside output_shape are dropped unless it is empty.
  m.def(
      "downsample_coords(Tensor coords, int[] kernel_size, int[] stride, int[] padding, int[] dilation, "
      "SymInt[] output_shape) -> Tensor");
  // The same with `capacity` rows, padding behind the real ones, and whether some had no room or were out of range. Nothing waits
  // for a GPU.
  m.def("unique_coords_padded(Tensor coords, SymInt capacity) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "downsample_coords_padded(Tensor coords, int[] kernel_size, int[] stride, int[] padding, int[] dilation, "
      "SymInt[] output_shape, SymInt capacity) -> (Tensor, Tensor)");
  // The same where windows do not overlap (no kernel_size above its stride, dilation 1) and rows are distinct, with the tables of
  // the kernel map: that of build_kernel_map and that of reverse_kernel_map. On a CPU they are built by these.
  m.def(
      "downsample_with_map(Tensor coords, int[] kernel_size, int[] stride, int[] padding, SymInt[] output_shape) -> "
      "(Tensor, Tensor, Tensor)");
  m.def(
      "downsample_with_map_padded(Tensor coords, int[] kernel_size, int[] stride, int[] padding, SymInt[] output_shape, "
      "SymInt capacity) -> (Tensor, Tensor, Tensor, Tensor)");
  // The coordinates that the taps of a transposed convolution reach, in the same way.
  m.def(
      "upsample_coords(Tensor coords, int[] kernel_size, int[] stride, int[] padding, int[] dilation, "
      "SymInt[] output_shape) -> Tensor");
  // Copy rows into buffers of as many or more rows, and -1 behind them into those of to_coords.
  m.def("pad_rows(Tensor coords, Tensor feats, Tensor(a!) to_coords, Tensor(b!) to_feats) -> ()");
  // Neighbour table (K, M_out): the input row under each tap of each output row, or -1. Without `check` a GPU does not wait to
  // learn whether rows are repeated or out of range.
  m.def(
      "build_kernel_map(Tensor in_coords, Tensor out_coords, int[] kernel_size, int[] stride, int[] padding, "
      "int[] dilation, bool check=True) -> Tensor");
  // The table of the opposite direction (K, num_inputs): the output row that each input row feeds under each tap, or -1.
  m.def("reverse_kernel_map(Tensor neighbors, SymInt num_inputs, bool check=True) -> Tensor");
  // The columns of a table in an order that brings rows with neighbours under the same taps together, and their rows.
  m.def("order_rows(Tensor neighbors) -> (Tensor, Tensor)");
  // out[m] = bias + sum over taps k of feats[neighbors[k, m]] @ weight[k]; gradients of feats need reverse_neighbors. Weights are
  // (K, Cin / groups, Cout); allow_tf32 lets float32 products on a GPU be rounded to TF32. The columns of both tables may come
  // in any order: column j of neighbors is then that of output row row_order[j].
  m.def(
      "sparse_conv(Tensor feats, Tensor weight, Tensor neighbors, Tensor? reverse_neighbors, Tensor? bias, int groups=1, "
      "bool allow_tf32=False, Tensor? row_order=None, Tensor? reverse_row_order=None) -> Tensor");
  // act(sparse_conv + residual), for inference; act(x) is x where x >= 0 and negative_slope * x elsewhere.
  m.def(
      "sparse_conv_fused(Tensor feats, Tensor weight, Tensor neighbors, Tensor? bias, Tensor? residual, int groups, "
      "bool allow_tf32, float negative_slope, Tensor? row_order=None) -> Tensor");
  // For measurements: a tile by number.
  m.def(
      "sparse_conv_tiled(Tensor feats, Tensor weight, Tensor neighbors, Tensor? bias, Tensor? residual, int groups, "
      "bool allow_tf32, float negative_slope, Tensor? row_order, int tile) -> Tensor");
  // Gradients of sparse_conv with respect to weight and, where asked for, bias (else an empty tensor). On a GPU they run over the
  // pairs of the table, and list them unless list_pairs did for this table, order and number of inputs.
  m.def(
      "sparse_conv_weight_grad(Tensor feats, Tensor grad_output, Tensor neighbors, Tensor? reverse_neighbors, "
      "bool with_bias, int groups=1, bool allow_tf32=False, Tensor? row_order=None, Tensor? reverse_row_order=None, "
      "Tensor? pairs=None) -> (Tensor, Tensor)");
  // The pairs of a table on a GPU, packed (csrc/cuda/sparse_conv_pairs.h); empty where there are too many to list at once.
  m.def("list_pairs(Tensor neighbors, SymInt num_inputs, Tensor? row_order) -> Tensor");
  // For measurements: a tile by number, and its blocks to a multiprocessor.
  m.def(
      "sparse_conv_weight_grad_tiled(Tensor feats, Tensor grad_output, Tensor neighbors, Tensor? reverse_neighbors, "
      "bool with_bias, int groups, bool allow_tf32, Tensor? row_order, int tile, int blocks) -> (Tensor, Tensor)");
  // The tile and its blocks that the current GPU takes for such a pass ("forward", "weight_grad") and dtype ("tf32" too).
  m.def(
      "chosen_conv_kernel(str pass_name, str dtype, int rows, int in_channels, int out_channels, int taps) -> (int, int)");
  // act(norm(feats) + residual) with the statistics of the rows, which are recorded, and returned as mean and invstd; a momentum
  // below 0 records the plain average of all batches (csrc/batch_norm.h). Then with given statistics, and the gradients of
  // feats, residual (empty where not asked for), weight and bias; `out` is needed where there is an activation.
  m.def(
      "batch_norm_train(Tensor feats, Tensor? residual, Tensor? weight, Tensor? bias, Tensor(a!)? running_mean, "
      "Tensor(b!)? running_var, Tensor(c!)? num_batches_tracked, float momentum, float eps, float negative_slope) -> "
      "(Tensor, Tensor, Tensor)");
  m.def(
      "batch_norm_inference(Tensor feats, Tensor? residual, Tensor mean, Tensor var, Tensor? weight, Tensor? bias, float eps, "
      "float negative_slope) -> Tensor");
  m.def(
      "batch_norm_backward(Tensor grad, Tensor feats, Tensor? out, Tensor mean, Tensor invstd, Tensor? weight, "
      "bool with_residual, float negative_slope) -> (Tensor, Tensor, Tensor, Tensor)");
  // Pooling along a neighbour table, entries outside [0, N) left out. How many neighbours each row has.
  m.def("neighbor_counts(Tensor neighbors, SymInt num_inputs) -> Tensor");
  // out[m] = (sum over neighbours n of feats[n] / in_counts[n]) / out_counts[m]; counts that are not given are 1.
  m.def(
      "sparse_sum_pool(Tensor feats, Tensor neighbors, Tensor? reverse_neighbors, Tensor? in_counts, "
      "Tensor? out_counts) -> Tensor");
  // The largest neighbour by channel, and the row it is in or -1.
  m.def("sparse_max_pool(Tensor feats, Tensor neighbors, Tensor? reverse_neighbors) -> (Tensor, Tensor)");
  // Values (M, C) to the rows (M, C) that they were the maximum of, summed: (N, C); and its adjoint, from there back to (M, C).
  m.def("sparse_max_unpool(Tensor feats, Tensor rows, Tensor reverse_neighbors) -> Tensor");
  m.def("sparse_max_take(Tensor feats, Tensor rows, Tensor reverse_neighbors) -> Tensor");

  // Long segments of rows [index, order, starts] (csrc/segment_reduce.h), such as the voxels of a batch item.
  m.def("make_segments(Tensor index, SymInt num_segments) -> (Tensor, Tensor, Tensor)");
  // Sum of feats, times factor where given, over each segment: (S, C) float32, float64 for float64.
  m.def("segment_dot(Tensor feats, Tensor? factor, Tensor index, Tensor order, Tensor starts) -> Tensor");
  // feats[m] * scale[index[m]] + shift[index[m]]; feats that are not given are 0, scale 1, shift 0.
  m.def(
      "segment_affine(Tensor? feats, Tensor? scale, Tensor? shift, Tensor index, Tensor order, Tensor starts) -> Tensor");
  // The largest value of each segment by channel, and the row it is in or -1.
  m.def("segment_max(Tensor feats, Tensor index, Tensor order, Tensor starts) -> (Tensor, Tensor)");

  // Dense grids around clouds (csrc/dense_grid.h): how far each point (N, 3) is from the centre of its cloud, (N, 1); then the
  // voxel of each point (N,), and the 8 voxels that it reads with their weights (N, 8); without radii no cloud is scaled.
  m.def("centre_distances(Tensor points, Tensor index, Tensor centres) -> Tensor");
  m.def(
      "grid_voxels(Tensor points, Tensor index, Tensor centres, Tensor? radii, SymInt resolution) -> "
      "(Tensor, Tensor, Tensor)");

  // The cell of each point (P, 1 + D), int32, padding where there is none but with `everywhere`; then the rows at its corners and
  // their weights (P, 2^D), from the neighbours of the cells under a kernel of 2 (csrc/point_cells.h).
  m.def("point_cells(Tensor points, int[] stride, float shift, bool quantized, bool everywhere=False) -> Tensor");
  m.def(
      "corner_weights(Tensor points, Tensor neighbors, int[] stride, float shift, bool quantized, bool renormalize) -> "
      "(Tensor, Tensor)");

  // out[p] = sum over j of weights[p, j] * feats[rows[p, j]], rows outside feats left out; gradients of feats need the entries
  // of rows sorted by value (csrc/weighted_gather.h). Then its adjoint, (M, C), and the gradient of weights, (P, J).
  m.def("weighted_gather(Tensor feats, Tensor rows, Tensor weights, Tensor? order, Tensor? starts) -> Tensor");
  m.def("weighted_scatter(Tensor grad, Tensor rows, Tensor weights, Tensor order, Tensor starts) -> Tensor");
  m.def("weighted_gather_dot(Tensor grad, Tensor feats, Tensor rows, Tensor? order, Tensor? starts) -> Tensor");

  // Neighbours among the points of a cloud; order and starts are its Segments, entries that are absent -1. num_samples points of
  // each cloud (B, S), each the furthest from those before; the first num_neighbors points within radius of each query (P, K);
  // the three nearest points and their squared distances (P, 3); the num_neighbors nearest in up to 16 coordinates (P, K).
  m.def("furthest_point_sample(Tensor points, Tensor order, Tensor starts, SymInt num_samples) -> Tensor");
  m.def(
      "ball_query(Tensor points, Tensor order, Tensor starts, Tensor queries, Tensor query_item, float radius, "
      "SymInt num_neighbors) -> Tensor");
  m.def(
      "three_nearest(Tensor points, Tensor order, Tensor starts, Tensor queries, Tensor query_item) -> (Tensor, Tensor)");
  m.def(
      "k_nearest(Tensor points, Tensor order, Tensor starts, Tensor queries, Tensor query_item, SymInt num_neighbors) -> "
      "(Tensor, Tensor)");

  // The row of each point's centre (N,), -1 without one; entries of a cloud come by falling beta (csrc/condense.h).
  m.def("condense(Tensor points, Tensor beta, Tensor order, Tensor starts, float radius, float min_beta) -> Tensor");

  // The instruction set that CPU kernels use, and another choice of it for tests and measurements (csrc/cpu/capability.h).
  m.def("cpu_capability() -> str");
  m.def("set_cpu_capability(str name) -> ()");

  // Points and boxes.
  // Key of the grid cell of each point, ((batch * X + x) * Y + y) * Z + z, or -1 outside and for NaN.
  m.def(
      "voxel_keys(Tensor points, Tensor? batch_index, float[] lower, float[] upper, float[] cell_size, "
      "int[] grid_shape, SymInt batch_size) -> Tensor");
  // Coords (M, 4) [batch, x, y, z] of cell keys.
  m.def("voxel_coords(Tensor keys, int[] grid_shape) -> Tensor");
  // Rows grouped by key, stable: order (K,), starts (G + 1,), the key of each group (G,), the group of each row (N,) or -1.
  m.def("group_by_key(Tensor keys, SymInt num_keys) -> (Tensor, Tensor, Tensor, Tensor)");
  // Mean over feats[order[starts[i] .. starts[i] + counts[i]]] for each segment i.
  m.def("segment_mean(Tensor feats, Tensor order, Tensor starts, Tensor counts) -> Tensor");
  m.def(
      "segment_mean_backward(Tensor grad, Tensor order, Tensor starts, Tensor counts, SymInt num_rows) -> Tensor");
  // Weighted gather-sum over segments [point, source, starts, target] (csrc/bev_pool.h): out (num_targets, C).
  m.def(
      "bev_pool(Tensor feats, Tensor? weight, Tensor[] segments, Tensor[] backward_segments, "
      "SymInt num_targets) -> Tensor");
  m.def(
      "bev_pool_weight_grad(Tensor grad, Tensor feats, Tensor[] backward_segments, SymInt num_points) -> Tensor");
  // Index of the first box that holds each point or -1, and the whole table; frames (K, 8) as in csrc/box_iou.h.
  m.def("points_in_boxes(Tensor points, Tensor frames) -> Tensor");
  m.def("points_in_boxes_mask(Tensor points, Tensor frames) -> Tensor");
  // Rotated intersection over union (N, M), from above or of volumes.
  m.def("box_iou(Tensor frames_a, Tensor frames_b, bool with_height) -> Tensor");
  // Greedy suppression of rows sorted best first: keep (K,) bool.
  m.def("nms_bev(Tensor frames, float iou_threshold) -> Tensor");
  m.def("circle_nms(Tensor centers, float min_distance) -> Tensor");
}
