# SPDX-License-Identifier: Apache-2.0
"""Plain loops in float64 for pooling, reductions over segments and interpolation. Never imports pcperc."""

import itertools
import math
from fractions import Fraction

import numpy as np


def sparse_pool(feats, neighbors, mode):
    """Values (M, C) and, for "max", the rows (M, C) that they came from; 0 and -1 without neighbours."""
    out = np.zeros((neighbors.shape[1], feats.shape[1]))
    rows = np.full(out.shape, -1, np.int32)
    for m, c in np.ndindex(*out.shape):
        taken = [n for n in neighbors[:, m] if 0 <= n < len(feats)]
        if not taken:
            continue
        if mode == "max":
            rows[m, c] = largest(feats[:, c], taken)
            out[m, c] = feats[rows[m, c], c]
        else:
            total = sum(float(feats[n, c]) for n in taken)
            out[m, c] = total / len(taken) if mode == "mean" else total
    return (out, rows) if mode == "max" else (out,)


def largest(column, rows):
    """The row of the first largest value; a NaN is larger than all numbers."""
    best = rows[0]
    for row in rows[1:]:
        if not math.isnan(column[best]) and (math.isnan(column[row]) or column[row] > column[best]):
            best = row
    return best


def max_unpool(feats, rows, num_rows):
    """out[rows[m, c], c] += feats[m, c]."""
    out = np.zeros((num_rows, feats.shape[1]))
    for m, c in zip(*np.nonzero(rows >= 0), strict=True):
        out[rows[m, c], c] += feats[m, c]
    return out


def segment_reduce(feats, index, num_segments, mode, factor=None):
    """Reduce the rows with index s to row s; 0 where there are none."""
    out = np.zeros((num_segments, feats.shape[1]))
    for s in range(num_segments):
        rows = feats[index == s] * (1 if factor is None else factor[index == s])
        if len(rows):
            out[s] = {"sum": np.sum, "mean": np.mean, "max": np.max}[mode](rows, axis=0)
    return out


def segment_affine(feats, index, scale, shift):
    """feats * scale + shift of the row's segment; 0 in a row of none."""
    out = np.zeros(feats.shape)
    for m, s in enumerate(index):
        if 0 <= s < len(scale):
            out[m] = feats[m] * scale[s] + shift[s]
    return out


def weighted_gather(feats, rows, weights):
    """out[p] = sum over j of weights[p, j] * feats[rows[p, j]]."""
    out = np.zeros((len(rows), feats.shape[1]))
    for p, j in np.ndindex(*rows.shape):
        if 0 <= rows[p, j] < len(feats):
            out[p] += weights[p, j] * feats[rows[p, j]]
    return out


def interpolate(feats, coords, points, mode, renormalize):
    """Value at each point [batch, ...] of voxels whose values sit at their indices."""
    row_of = {tuple(row): i for i, row in enumerate(coords.tolist())}
    out = np.zeros((len(points), feats.shape[1]))
    for p, (batch, *xyz) in enumerate(points):
        if not np.isfinite(xyz).all() or not np.isfinite(batch):
            continue
        total = 0.0
        if mode == "nearest":
            corners = [([math.floor(v + 0.5) for v in xyz], 1.0)]
        else:
            low = [math.floor(v) for v in xyz]
            corners = []
            for step in itertools.product((0, 1), repeat=len(xyz)):
                corner = [a + b for a, b in zip(low, step, strict=True)]
                corners.append((corner, math.prod(1 - abs(v - a) for v, a in zip(xyz, corner, strict=True))))
        for corner, weight in corners:
            row = row_of.get((int(batch), *corner))
            if row is not None:
                out[p] += weight * feats[row]
                total += weight
        if renormalize and total > 0:
            out[p] /= total
    return out


def point_cells(points, stride, shift, quantized, limits):
    """floor(xyz / stride - shift) by fractions, which do not round; [-1, 0, ...] where there is no such cell."""
    max_batch, low, high = limits
    out = np.zeros(points.shape, np.int32)
    out[:, 0] = -1
    for p, row in enumerate(points.tolist()):
        if not all(map(math.isfinite, row)):
            continue
        batch, *xyz = (Fraction(v) for v in row)
        batch = math.floor(batch + Fraction(1, 2))
        xyz = [Fraction(math.floor(v)) for v in xyz] if quantized else xyz
        cell = [math.floor(v / step - Fraction(shift)) for v, step in zip(xyz, stride, strict=True)]
        if 0 <= batch <= max_batch and all(low <= c <= high for c in cell):
            out[p] = batch, *cell
    return out
