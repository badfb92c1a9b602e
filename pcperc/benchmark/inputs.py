# SPDX-License-Identifier: Apache-2.0
"""The LiDAR sweep that everything is measured on: a real one where there is one, else a synthetic one that says so."""

import os
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pcperc.datasets.cloud_files import NUMPY_ERRORS
from pcperc.engine.raw_files import read_points

SWEEP_FILE = "an .npz with pc (N, 3 or more), finite and in metres, or a .bin of nuScenes or KITTI"


@dataclass(frozen=True)
class Sweep:
    """Points and voxels of one LiDAR sweep.

    points: (N, 3) float32 in metres.
    coords: (M, 4) int32 ``[0, x, y, z]`` >= 0 on the CPU, distinct, in one shuffled order that is always the same.
    """

    points: np.ndarray
    coords: Tensor
    name: str
    voxel_size: float

    def copies(self, count: int) -> Tensor:
        """(count * M, 4): the sweep as each of ``count`` batch items."""
        coords = self.coords.repeat(count, 1)
        coords[:, 0] = torch.arange(count, dtype=torch.int32).repeat_interleave(len(self.coords))
        return coords

    def with_voxels(self, count: int) -> "Sweep":
        """The ``count`` voxels nearest to the middle of the sweep, or as many sweeps beside each other as hold them."""
        cells = self.coords[:, 1:].long()
        if count > len(cells):
            step = cells.max(0).values + 9  # further apart than any kernel reaches
            number = -(-count // len(cells))
            side = int(np.ceil(number**0.5))
            places = torch.arange(number)
            shifts = torch.stack([places % side, places // side, torch.zeros_like(places)], 1) * step
            cells = (cells + shifts[:, None]).flatten(0, 1)
        distance = (cells - cells.double().mean(0)).square().sum(1)
        chosen = distance.argsort(stable=True)[:count].sort().values  # in the sweep's own order
        coords = torch.cat([torch.zeros(count, 1, dtype=torch.int32), cells[chosen].int()], 1)
        coords[:, 1:] -= coords[:, 1:].min(0).values
        return replace(self, coords=coords)


def load_sweep(path: Path | None, voxel_size: float) -> Sweep:
    """Read a sweep and voxelize it.

    Args:
        path: .npz with ``pc`` (N, 3 or more) in metres, or a .bin of nuScenes or KITTI; None takes
            ``waymo/benchmark-pc.npz`` of $PCPERC_REALDATA and, where that is not set, makes a synthetic sweep.
        voxel_size: edge of a voxel in metres, > 0.
    Raises:
        FileNotFoundError: no such file. ValueError: it is no such file, or has no such array.
    """
    folder = os.environ.get("PCPERC_REALDATA")
    if path is None and folder:
        path = Path(folder, "waymo", "benchmark-pc.npz")
    if path is None:
        return _sweep(synthetic_points(), "synthetic sweep", voxel_size)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a sweep must be {SWEEP_FILE}")
    points = read_points(path) if path.suffix == ".bin" else _read_npz(path)
    return _sweep(points[:, :3].astype(np.float32), path.name, voxel_size)


def _read_npz(path: Path) -> np.ndarray:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: a sweep must be {SWEEP_FILE}, got {path.stat().st_size} bytes of something else")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            got, points = sorted(arrays), arrays["pc"] if "pc" in arrays else None
    except NUMPY_ERRORS as error:  # damaged, or objects instead of numbers
        raise ValueError(f"{path}: a sweep must be {SWEEP_FILE}, got one that cannot be read ({error})") from error
    if points is not None:
        got = f"pc {points.shape} {points.dtype}"
        if points.ndim == 2 and len(points) and points.shape[1] >= 3 and points.dtype.kind in "fiu":
            if np.isfinite(points[:, :3]).all():
                return points
            got = "NaN or infinity"
    raise ValueError(f"{path}: a sweep must be {SWEEP_FILE}, got {got}")


def synthetic_points(*, beams: int = 64, azimuths: int = 2650, num_objects: int = 60, seed: int = 0) -> np.ndarray:
    """(N, 3) float32: what a spinning LiDAR 1.8 m above flat ground sees among upright cylinders, in metres."""
    rng = np.random.default_rng(seed)
    elevation = np.radians(np.linspace(-17.6, 2.4, beams))[:, None]
    azimuth = np.linspace(-np.pi, np.pi, azimuths, endpoint=False)[None]
    with np.errstate(divide="ignore"):
        distance = np.where(elevation < 0, -1.8 / np.tan(elevation), np.inf) * np.ones_like(azimuth)  # on the ground
    centres = rng.uniform(-60, 60, (num_objects, 2))
    radii = rng.uniform(0.2, 6, num_objects)
    tops = rng.uniform(0, 8, num_objects)
    for (x, y), radius, top in zip(centres, radii, tops, strict=True):
        along = x * np.cos(azimuth) + y * np.sin(azimuth)
        inside = radius**2 - (x * np.sin(azimuth) - y * np.cos(azimuth)) ** 2
        front = along - np.sqrt(np.maximum(inside, 0))
        height = front * np.tan(elevation)
        hit = (inside > 0) & (front > 1) & (front < distance) & (height < top)
        distance = np.where(hit, front, distance)
    distance = np.where(distance < 75, distance + rng.normal(0, 0.02, distance.shape), np.nan)
    points = np.stack(
        [distance * np.cos(azimuth), distance * np.sin(azimuth), distance * np.tan(elevation)], -1
    ).reshape(-1, 3)
    return points[np.isfinite(points).all(1)].astype(np.float32)


def _sweep(points: np.ndarray, name: str, voxel_size: float) -> Sweep:
    cells = np.unique(np.floor((points - points.min(0)) / voxel_size).astype(np.int32), axis=0)
    cells = np.random.default_rng(0).permutation(cells)
    coords = np.concatenate([np.zeros((len(cells), 1), np.int32), cells], 1)
    return Sweep(points, torch.from_numpy(coords), name, voxel_size)
