# SPDX-License-Identifier: Apache-2.0
"""Two labelled scans made into one. The second is drawn by the sample's own generator from the same data set."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from pcperc.registry import TRANSFORMS
from pcperc.transforms.compose import Compose, Sample, check_probability, check_range, require_keys, rng_of
from pcperc.transforms.points import keep_points

# What holds for a recorded scan and not for a mixed one.
RECORDED_KEYS = ("num_recorded_points", "point_index", "recorded_labels")


@TRANSFORMS.register_module()
class LaserMix:
    """Cut two scans into areas of inclination and take them in turn from one and the other.

    The areas are equally wide between the two inclinations; what lies beyond belongs to the outermost. Which scan the
    highest area comes from is left to chance.

    Args:
        transforms: applied to the second scan before mixing, usually those that stand before this one; the second scan
            comes without any. One that drops it leaves the sample as it is.
        num_areas: numbers of areas to choose from, each >= 2.
        inclination_range_deg: lowest and highest beam of the LiDAR.
        probability: of mixing at all.
    Raises:
        ValueError: a range with low >= high, a number of areas below 2, a probability outside [0, 1].
    Source: Kong et al., LaserMix for Semi-Supervised LiDAR Semantic Segmentation, CVPR 2023, section 3.2; the values
        are those of mmdetection3d's recipe for SemanticKITTI.
    """

    def __init__(
        self,
        *,
        transforms: Sequence[Callable[[Sample], Sample | None] | dict] = (),
        num_areas: Sequence[int] = (3, 4, 5, 6),
        inclination_range_deg: Sequence[float] = (-25.0, 3.0),
        probability: float = 1.0,
    ) -> None:
        self.transforms = Compose(transforms)
        self.num_areas = tuple(int(number) for number in num_areas)
        low, high = check_range("LaserMix", "inclination_range_deg", inclination_range_deg)
        if not self.num_areas or min(self.num_areas) < 2 or low == high:
            raise ValueError(
                "LaserMix: num_areas must be >= 2 within a range that is not empty, "
                f"got {tuple(num_areas)} and {(low, high)}"
            )
        self.inclination_range_deg = low, high
        self.probability = check_probability("LaserMix", "probability", probability)

    def __call__(self, sample: Sample) -> Sample:
        rng = rng_of(sample, "LaserMix")
        if rng.uniform() >= self.probability:
            return sample
        other = _other_scan(sample, self.transforms, "LaserMix")
        if other is None:
            return sample
        number, first = int(rng.choice(self.num_areas)), int(rng.integers(2))
        own = (self._areas(sample["points"], number) + first) % 2 == 0
        others = (self._areas(other["points"], number) + first) % 2 == 1
        return _joined([keep_points(sample, own), keep_points(other, others)])

    def _areas(self, points: np.ndarray, number: int) -> np.ndarray:
        """Return the area of each point, (N,) int64, 0 for the lowest."""
        xyz = points[:, :3].astype(np.float64)
        inclination = np.degrees(np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1])))
        low, high = self.inclination_range_deg
        areas = np.floor((inclination - low) / (high - low) * number)
        return np.clip(areas, 0, number - 1).astype(np.int64)


@TRANSFORMS.register_module()
class PolarMix:
    """Exchange half a turn of the scan with another one, then paste its objects, as they are and turned about z.

    Args:
        paste_labels: train ids of the classes whose points are pasted; () pastes nothing. For SemanticKITTI 0 to 7, the
            classes that have instances.
        transforms: as of `LaserMix`.
        swap_probability: of exchanging the half turn.
        paste_probability: of pasting.
        num_turned: turned copies of each object beside the one as it stood; the n-th is turned by an angle drawn from
            the n-th of as many equal parts of 240 degrees.
    Raises:
        ValueError: a probability outside [0, 1], or num_turned < 0.
    Source: Xiao et al., PolarMix: A General Data Augmentation Technique for LiDAR Point Clouds, NeurIPS 2022, section
        3; the values are those of its published recipe.
    """

    def __init__(
        self,
        *,
        paste_labels: Sequence[int],
        transforms: Sequence[Callable[[Sample], Sample | None] | dict] = (),
        swap_probability: float = 0.5,
        paste_probability: float = 1.0,
        num_turned: int = 2,
    ) -> None:
        self.paste_labels = np.asarray(paste_labels, dtype=np.int64)
        self.transforms = Compose(transforms)
        self.swap_probability = check_probability("PolarMix", "swap_probability", swap_probability)
        self.paste_probability = check_probability("PolarMix", "paste_probability", paste_probability)
        if num_turned < 0:
            raise ValueError(f"PolarMix: num_turned must be >= 0, got {num_turned}")
        self.num_turned = int(num_turned)

    def __call__(self, sample: Sample) -> Sample:
        rng = rng_of(sample, "PolarMix")
        swap, paste = rng.uniform() < self.swap_probability, rng.uniform() < self.paste_probability
        if not (swap or paste):
            return sample
        other = _other_scan(sample, self.transforms, "PolarMix")
        if other is None:
            return sample
        parts = [sample]
        if swap:
            start = rng.uniform(-math.pi, math.pi)
            parts = [
                keep_points(sample, ~_in_half_turn(sample["points"], start)),
                keep_points(other, _in_half_turn(other["points"], start)),
            ]
        if paste:
            objects = keep_points(other, np.isin(other["point_labels"], self.paste_labels))
            share = math.radians(240) / max(self.num_turned, 1)
            angles = [(n + rng.uniform()) * share for n in range(self.num_turned)]
            parts += [objects, *({**objects, "points": _turned(objects["points"], angle)} for angle in angles)]
        return _joined(parts)


def _other_scan(sample: Sample, transforms: Compose, op: str) -> Sample | None:
    """Return the scan to mix with, of the same columns; None where the transforms drop it."""
    require_keys(sample, op, "points", "point_labels", "draw_other")
    other = transforms(sample["draw_other"]())
    if other is None:
        return None
    require_keys(other, op, "points", "point_labels")
    if other["points"].shape[1] != sample["points"].shape[1]:
        raise ValueError(
            f"{op}: both scans must have the same columns, got {sample['points'].shape[1]} in "
            f"{sample.get('sample_token')} and {other['points'].shape[1]} in {other.get('sample_token')}"
        )
    return other


def _joined(parts: list[Sample]) -> Sample:
    """Return one sample with the points of all, the first one's in front; objects keep apart by their instance ids."""
    first = {key: value for key, value in parts[0].items() if key not in RECORDED_KEYS}
    for key in ("points", "point_labels"):
        first[key] = np.concatenate([part[key] for part in parts])
    if all("point_instances" in part for part in parts):
        instances, highest = [], 0
        for part in parts:
            own = part["point_instances"]
            instances.append(np.where(own > 0, own + highest, 0))
            highest = max(highest, int(instances[-1].max(initial=0)))
        first["point_instances"] = np.concatenate(instances)
    return first


def _in_half_turn(points: np.ndarray, start: float) -> np.ndarray:
    """Return which points lie within half a turn counter-clockwise from the azimuth ``start``."""
    azimuth = np.arctan2(points[:, 1].astype(np.float64), points[:, 0].astype(np.float64))
    return np.mod(azimuth - start, 2 * math.pi) < math.pi


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    """Return the points turned about z."""
    turned, (x, y) = points.copy(), points[:, :2].astype(np.float64).T
    turned[:, 0] = math.cos(angle) * x - math.sin(angle) * y
    turned[:, 1] = math.sin(angle) * x + math.cos(angle) * y
    return turned
