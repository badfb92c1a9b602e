# SPDX-License-Identifier: Apache-2.0
"""From the places of hits in a learned space to clusters, on the device that the hits are on."""

import math

import torch
from torch import Tensor

from pcperc import ops
from pcperc.models.calorimeter.distances import all_distances

CHUNK = 2**24  # distances that are held at once


@torch.no_grad()
def condense(x: Tensor, beta: Tensor, group: Tensor, *, radius: float, min_beta: float = 0.1) -> Tensor:
    """Clusters around hits of large beta, by :func:`pcperc.ops.condense`.

    Args:
        x: (N, D) floating point. beta: (N,). radius, min_beta: as there.
        group: (N,) integers; only hits of one group, such as an event, make a cluster; one < 0 is in none.
    Returns:
        (N,) int64, the row of each hit's centre; -1 for a hit that is near none.
    Raises:
        ValueError: shapes that differ, or a radius that is not > 0 and finite.
    Deterministic: yes. The host waits for the device once, for the number of groups.
    """
    _check("condense", "radius", radius, x, beta, group)
    num_items = int(group.max()) + 1 if len(group) else 0
    return ops.condense(x, beta, group, num_items=max(num_items, 0), radius=radius, min_beta=min_beta).long()


@torch.no_grad()
def mean_shift(x: Tensor, group: Tensor, *, bandwidth: float, max_iterations: int = 300) -> Tensor:
    """Flat-kernel mean shift: seeds move to the mean of the hits within the bandwidth until they rest.

    Seeds are the cells of a grid as wide as the bandwidth that hold hits. Of seeds that came to rest within a bandwidth
    of each other the one with the most hits around it counts, and every hit goes to the nearest one of its group.

    Args:
        x: (N, D) floating point; a hit that is not finite is in no cluster. group: as of `condense`. bandwidth: > 0.
        max_iterations: a seed that still moves then is taken where it is.
    Returns:
        (N,) int64 numbers of clusters, counted over all groups from 0; -1 where the group is < 0 or the hit not finite.
    Raises:
        ValueError: shapes that differ, or a bandwidth that is not > 0 and finite.
    Source: Comaniciu and Meer, "Mean shift", PAMI 24 (2002); seeds, rest and ties as in scikit-learn's ``MeanShift``
        with ``bin_seeding``.
    Deterministic: yes. Cost: hits times seeds, for each of the iterations; the host looks at the device once in each.
    """
    _check("mean_shift", "bandwidth", bandwidth, x, group, group)
    cluster, count = torch.full_like(group, -1, dtype=torch.int64), 0
    group = torch.where(x.isfinite().all(1), group, -1)  # 0 times NaN in the mean of others would be NaN
    for value in group.unique().tolist():
        if value < 0:
            continue
        rows = (group == value).nonzero().squeeze(1)
        points = x[rows].float() if x.dtype != torch.float64 else x[rows]
        modes = _modes(points, bandwidth, max_iterations)
        nearest = [all_distances(part, modes).argmin(1) for part in points.split(max(CHUNK // len(modes), 1))]
        cluster[rows] = count + torch.cat(nearest)
        count += len(modes)
    return cluster


def _modes(points: Tensor, bandwidth: float, max_iterations: int) -> Tensor:
    """Return where the seeds of N > 0 points come to rest, (M, D), the ones with the most points first."""
    cells = (points / bandwidth).round().unique(dim=0)
    seeds = points.clone() if len(cells) == len(points) else cells * bandwidth
    seeds = seeds[_count(seeds, points, bandwidth) > 0]
    if not len(seeds):  # so far from the origin that a cell's middle is rounded away from all of its points
        seeds = points.unique(dim=0)
    resting = []
    for _ in range(max_iterations):
        if not len(seeds):
            break
        moved = _shifted(seeds, points, bandwidth)
        far = (moved - seeds).square().sum(1) > (1e-3 * bandwidth) ** 2
        resting.append(moved[~far])
        seeds = moved[far].unique(dim=0)  # seeds with the same points around them are one from here on
    seeds = torch.cat([*resting, seeds]).unique(dim=0)
    weight = _count(seeds, points, bandwidth)
    order = _sorted_rows(seeds, weight)
    seeds, weight = seeds[order], weight[order]
    one = torch.zeros_like(order)
    kept = condense(seeds, weight.to(seeds), one, radius=bandwidth, min_beta=-1.0)
    return seeds[kept == torch.arange(len(seeds), device=seeds.device)]


def _sorted_rows(seeds: Tensor, weight: Tensor) -> Tensor:
    """Return the order by weight, then by the coordinates, all descending."""
    order = torch.arange(len(seeds), device=seeds.device)
    for values in (*seeds.flip(1).unbind(1), weight):
        order = order[values[order].argsort(descending=True, stable=True)]
    return order


def _shifted(seeds: Tensor, points: Tensor, bandwidth: float) -> Tensor:
    parts = []
    for part in seeds.split(max(CHUNK // len(points), 1)):
        inside = (all_distances(part, points) <= bandwidth).to(points)
        parts.append(inside @ points / inside.sum(1, keepdim=True))
    return torch.cat(parts)


def _count(seeds: Tensor, points: Tensor, bandwidth: float) -> Tensor:
    parts = seeds.split(max(CHUNK // len(points), 1))
    return torch.cat([(all_distances(part, points) <= bandwidth).sum(1) for part in parts])


def _check(op: str, name: str, width: float, x: Tensor, beta: Tensor, group: Tensor) -> None:
    if x.ndim != 2 or beta.shape != x.shape[:1] or group.shape != x.shape[:1]:
        shapes = [tuple(tensor.shape) for tensor in (x, beta, group)]
        raise ValueError(f"{op}: x must be (N, D) and the others (N,), got {shapes}")
    if not 0 < width < math.inf:
        raise ValueError(f"{op}: {name} must be finite and > 0, got {width}")
