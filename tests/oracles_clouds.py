# SPDX-License-Identifier: Apache-2.0
"""Neighbours, samples and dense grids of clouds as plain loops in float64. Never imports pcperc.

``batch`` (N,) is the cloud of each point; points of no cloud in [0, B) take no part.
"""

import itertools

import numpy as np


def rows_of(points, batch, cloud, batch_size):
    if not 0 <= cloud < batch_size:
        return []
    return [n for n in range(len(points)) if batch[n] == cloud and np.isfinite(points[n]).all()]


def square(a, b):
    return float(((a - b) ** 2).sum())


def furthest_point_sample(points, batch, batch_size, num_samples):
    out = np.full((batch_size, num_samples), -1)
    for cloud in range(batch_size):
        left = rows_of(points, batch, cloud, batch_size)
        taken = []
        while left and len(taken) < num_samples:
            nearest = [min((square(points[n], points[t]) for t in taken), default=0.0) for n in left]
            taken.append(left.pop(int(np.argmax(nearest))))
        out[cloud, : len(taken)] = taken
    return out


def ball_query(points, batch, queries, query_batch, batch_size, radius, num_neighbors):
    out = np.full((len(queries), num_neighbors), -1)
    for p, query in enumerate(queries):
        inside = [n for n in rows_of(points, batch, query_batch[p], batch_size) if square(points[n], query) < radius**2]
        inside = inside[:num_neighbors]
        out[p, : len(inside)] = inside
    return out


def k_nearest(points, batch, queries, query_batch, batch_size, num_neighbors):
    rows, squares = np.full((len(queries), num_neighbors), -1), np.zeros((len(queries), num_neighbors))
    for p, query in enumerate(queries):
        if not np.isfinite(query).all():
            continue
        ranked = sorted((square(points[n], query), n) for n in rows_of(points, batch, query_batch[p], batch_size))
        for k, (distance, row) in enumerate(ranked[:num_neighbors]):
            rows[p, k], squares[p, k] = row, distance
    return rows, squares


def three_nearest(points, batch, queries, query_batch, batch_size):
    return k_nearest(points, batch, queries, query_batch, batch_size, 3)


def interpolate_three(feats, points, batch, queries, query_batch, batch_size):
    rows, squares = three_nearest(points, batch, queries, query_batch, batch_size)
    out = np.zeros((len(queries), feats.shape[1]))
    for p in range(len(queries)):
        near = [
            (feats[row], 1 / max(square, 1e-10)) for row, square in zip(rows[p], squares[p], strict=True) if row >= 0
        ]
        if near:
            out[p] = sum(value * weight for value, weight in near) / sum(weight for _, weight in near)
    return out


def places(points, batch, batch_size, resolution, normalize):
    """(N, 3) place of each point in its grid, NaN for one that has none."""
    out = np.full((len(points), 3), np.nan)
    for cloud in range(batch_size):
        members = batch == cloud
        if not members.any() or not np.isfinite(points[members]).all():
            continue
        centred = points[members] - points[members].mean(0)
        if normalize:
            largest = np.sqrt((centred**2).sum(1)).max()
            unit = centred / (2 * largest if largest > 0 else 1.0) + 0.5
        else:
            unit = (centred + 1) / 2
        out[members] = np.minimum(np.maximum(unit * resolution, 0), resolution - 1)
    return out


def avg_voxelize(feats, place, batch, batch_size, resolution):
    sums = np.zeros((batch_size, feats.shape[1], *[resolution] * 3))
    counts = np.zeros((batch_size, 1, *[resolution] * 3))
    for n in range(len(feats)):
        if np.isfinite(place[n]).all():
            x, y, z = np.rint(place[n]).astype(int)
            sums[batch[n], :, x, y, z] += feats[n]
            counts[batch[n], :, x, y, z] += 1
    return sums / np.maximum(counts, 1)


def trilinear_devoxelize(volume, place, batch):
    out = np.zeros((len(place), volume.shape[1]))
    for n in range(len(place)):
        if not np.isfinite(place[n]).all():
            continue
        low = np.floor(place[n]).astype(int)
        for step in itertools.product((0, 1), repeat=3):
            corner = low + step
            weight = np.prod(1 - np.abs(place[n] - corner))
            if weight > 0:
                out[n] += weight * volume[batch[n], :, corner[0], corner[1], corner[2]]
    return out
