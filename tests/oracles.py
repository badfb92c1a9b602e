# SPDX-License-Identifier: Apache-2.0
"""Plain loops in float64, one per operator: the authority of the operator tests. Never imports pcperc."""

import itertools
import math

import numpy as np
import shapely
from shapely.geometry import Polygon


def taps(kernel_size):
    """All taps of a kernel, lexicographic, last axis fastest."""
    return list(itertools.product(*(range(k) for k in kernel_size)))


def unique_coords(coords):
    """Sorted distinct rows, the position of every input row among them, and how often each occurs."""
    rows = [tuple(int(v) for v in row) for row in coords]
    distinct = sorted(set(rows))
    position = {row: i for i, row in enumerate(distinct)}
    inverse = [position[row] for row in rows]
    return (
        np.array(distinct, np.int32).reshape(-1, coords.shape[1]),
        np.array(inverse, np.int64),
        np.bincount(inverse, minlength=len(distinct)),
    )


def output_shape(spatial_shape, kernel_size, stride, padding, dilation):
    """torch.nn.Conv3d's size formula."""
    return tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(spatial_shape, kernel_size, stride, padding, dilation, strict=True)
    )


def downsample_coords(coords, *, kernel_size, stride, padding, dilation, spatial_shape=None):
    """Every output o for which some input equals stride * o + dilation * tap - padding, sorted."""
    found = set()
    for batch, *fine in coords.tolist():
        for tap in taps(kernel_size):
            coarse = []
            for f, s, p, d, t in zip(fine, stride, padding, dilation, tap, strict=True):
                quotient, remainder = divmod(f - d * t + p, s)
                if remainder:
                    break
                coarse.append(quotient)
            else:
                found.add((batch, *coarse))
    if spatial_shape is not None:
        size = output_shape(spatial_shape, kernel_size, stride, padding, dilation)
        found = {row for row in found if all(0 <= v < n for v, n in zip(row[1:], size, strict=True))}
    return np.array(sorted(found), np.int32).reshape(-1, coords.shape[1])


def kernel_map(in_coords, out_coords, *, kernel_size, stride, padding, dilation):
    """neighbors (K, M_out): the input row at stride * o + dilation * tap - padding, or -1."""
    row_of = {tuple(row): i for i, row in enumerate(in_coords.tolist())}
    table = np.full((math.prod(kernel_size), len(out_coords)), -1, np.int32)
    for k, tap in enumerate(taps(kernel_size)):
        for m, (batch, *coarse) in enumerate(out_coords.tolist()):
            fine = (s * o + d * t - p for o, s, p, d, t in zip(coarse, stride, padding, dilation, tap, strict=True))
            table[k, m] = row_of.get((batch, *fine), -1)
    return table


def sparse_conv(feats, weight, neighbors, bias=None, *, groups=1):
    """out[m] = bias + sum over taps with a neighbour of feats[neighbour] @ weight[tap], group by group."""
    feats, weight = np.asarray(feats, np.float64), np.asarray(weight, np.float64)
    out = np.zeros((neighbors.shape[1], weight.shape[2]))
    if bias is not None:
        out += np.asarray(bias, np.float64)
    pairs = list(zip(*np.nonzero(neighbors >= 0), strict=True))
    for columns_in, columns_out in zip(
        np.split(np.arange(feats.shape[1]), groups), np.split(np.arange(weight.shape[2]), groups), strict=True
    ):
        for k, m in pairs:
            out[m, columns_out] += feats[neighbors[k, m], columns_in] @ weight[k][:, columns_out]
    return out


def sparse_conv_fused(feats, weight, neighbors, bias=None, residual=None, *, groups=1, negative_slope=1.0):
    """Leaky ReLU of sparse_conv plus residual."""
    out = sparse_conv(feats, weight, neighbors, bias, groups=groups)
    if residual is not None:
        out += np.asarray(residual, np.float64)
    return np.where(out >= 0, out, negative_slope * out)


def voxel_of(points, voxel_size, lower):
    """floor((p - lower) / voxel_size) in float32, as a GPU computes it; the rule of voxelize_hard and voxelize_mean."""
    size, low = np.asarray(voxel_size, np.float32), np.asarray(lower, np.float32)
    return np.floor((points[:, :3].astype(np.float32) - low) / size)


def voxelize_hard(points, *, voxel_size, point_range, max_points, max_voxels):
    """Voxels in the order of their first point, the first points of each; lists of row numbers."""
    size = np.round((np.array(point_range[3:]) - np.array(point_range[:3])) / np.array(voxel_size)).astype(int)
    order = {}
    cells = voxel_of(points, voxel_size, point_range[:3])
    for row, cell in enumerate(cells):
        if not np.isfinite(cell).all() or (cell < 0).any() or (cell >= size).any():
            continue
        key = tuple(int(v) for v in cell)
        if key not in order:
            if len(order) == max_voxels:
                continue
            order[key] = []
        if len(order[key]) < max_points:
            order[key].append(row)
    return np.array(list(order), np.int32).reshape(-1, 3), list(order.values())


def bev_pool(context, cells, rows, weight, batch_size, grid_shape):
    """out[b, z * C + c, x, y] = sum over points p of that cell of weight[p] * context[rows[p], c]."""
    (x_size, y_size, z_size), channels = grid_shape, context.shape[1]
    out = np.zeros((batch_size, z_size, channels, x_size, y_size))
    for p, (b, x, y, z) in enumerate(cells):
        if 0 <= x < x_size and 0 <= y < y_size and 0 <= z < z_size:
            out[b, z, :, x, y] += float(weight[p]) * np.asarray(context[rows[p]], np.float64)
    return out.reshape(batch_size, z_size * channels, x_size, y_size)


def corners_bev(box):
    """The four corners of a box seen from above, counter-clockwise."""
    x, y, _, length, width, _, yaw = (float(v) for v in box[:7])
    c, s = math.cos(yaw), math.sin(yaw)
    halves = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    return [(x + c * a * length / 2 - s * b * width / 2, y + s * a * length / 2 + c * b * width / 2) for a, b in halves]


def points_in_boxes_mask(points, boxes):
    """(N, K) whether a point lies in a box, faces included."""
    mask = np.zeros((len(points), len(boxes)), bool)
    for n, point in enumerate(np.asarray(points, np.float64)):
        for k, (x, y, z, length, width, height, yaw, *_) in enumerate(np.asarray(boxes, np.float64)):
            dx, dy, dz = point[0] - x, point[1] - y, point[2] - z
            along = math.cos(yaw) * dx + math.sin(yaw) * dy
            across = -math.sin(yaw) * dx + math.cos(yaw) * dy
            mask[n, k] = abs(along) <= length / 2 and abs(across) <= width / 2 and abs(dz) <= height / 2
    return mask


def overlap_area(a, b):
    """Area of two polygons' intersection; clipping to rounding may find nothing where they all but coincide."""
    exact, on_grid = a.intersection(b).area, shapely.intersection(a, b, grid_size=1e-12).area
    return exact if abs(exact - on_grid) < 1e-9 else on_grid


def box_iou(a, b, *, use_height):
    """(N, M) intersection over union by polygon clipping (shapely), of ground areas or of volumes."""
    out = np.zeros((len(a), len(b)))
    for i, p in enumerate(np.asarray(a, np.float64)):
        for j, q in enumerate(np.asarray(b, np.float64)):
            inter = overlap_area(Polygon(corners_bev(p)), Polygon(corners_bev(q)))
            sizes = [p[3] * p[4], q[3] * q[4]]
            if use_height:
                top, bottom = min(p[2] + p[5] / 2, q[2] + q[5] / 2), max(p[2] - p[5] / 2, q[2] - q[5] / 2)
                inter *= max(0.0, top - bottom)
                sizes = [sizes[0] * p[5], sizes[1] * q[5]]
            union = sum(sizes) - inter
            out[i, j] = inter / union if union > 0 else 0.0
    return out


def greedy_nms(overlap, scores, threshold):
    """Indices kept when boxes are taken by falling score (ties: lower index) and suppress what overlaps them more."""
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if all(overlap[i, j] <= threshold for j in kept):
            kept.append(i)
    return kept
