# SPDX-License-Identifier: Apache-2.0
"""Augmentation and filtering of the point cloud; the boxes move with it and ``lidar_aug`` remembers how."""

import math
from collections.abc import Sequence

import numpy as np

from pcperc.geometry.boxes import transform_boxes
from pcperc.registry import TRANSFORMS
from pcperc.transforms.compose import Sample, check_point_range, check_probability, check_range, require_keys, rng_of

POINT_KEYS = ("points", "point_labels", "point_instances", "point_index")


@TRANSFORMS.register_module()
class GlobalScaleRotateTranslate:
    """Turn the scene about z, move it, then scale it: ``p -> scale * (R p + t)``. Speeds scale as lengths do.

    Args:
        scale_range: factor, uniform.
        rotate_range: radians, counter-clockwise seen from above, uniform.
        translate_std: standard deviation of each of x, y, z in metres (before the scaling, as in the published code).
    Raises:
        ValueError: a range with low > high, a scale that is not positive, a negative deviation.
    Source: Liu et al., BEVFusion, ICRA 2023; the values are those of its published recipe.
    """

    def __init__(
        self,
        *,
        scale_range: Sequence[float] = (0.9, 1.1),
        rotate_range: Sequence[float] = (-math.pi / 4, math.pi / 4),
        translate_std: float = 0.5,
    ) -> None:
        op = type(self).__name__
        self.scale_range = check_range(op, "scale_range", scale_range)
        self.rotate_range = check_range(op, "rotate_range", rotate_range)
        if self.scale_range[0] <= 0:
            raise ValueError(f"{op}: scale_range must be positive, got {self.scale_range}")
        if not translate_std >= 0:
            raise ValueError(f"{op}: translate_std must be >= 0, got {translate_std}")
        self.translate_std = float(translate_std)

    def __call__(self, sample: Sample) -> Sample:
        rng = rng_of(sample, type(self).__name__)
        scale, angle = rng.uniform(*self.scale_range), rng.uniform(*self.rotate_range)
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        matrix = np.array([[cos, -sin, 0, 0], [sin, cos, 0, 0], [0, 0, scale, 0], [0, 0, 0, 1]], dtype=np.float64)
        matrix[:3, 3] = scale * rng.normal(scale=self.translate_std, size=3)
        return move_scene(sample, matrix, op=type(self).__name__)


@TRANSFORMS.register_module()
class RandomFlip3D:
    """Mirror the scene: ``x -> -x`` and ``y -> -y``, each by its own chance.

    Args:
        flip_x_probability, flip_y_probability: of changing the sign of that coordinate.
    """

    def __init__(self, *, flip_x_probability: float = 0.5, flip_y_probability: float = 0.5) -> None:
        op = type(self).__name__
        self.flip_x_probability = check_probability(op, "flip_x_probability", flip_x_probability)
        self.flip_y_probability = check_probability(op, "flip_y_probability", flip_y_probability)

    def __call__(self, sample: Sample) -> Sample:
        rng = rng_of(sample, type(self).__name__)
        flip_x, flip_y = rng.uniform() < self.flip_x_probability, rng.uniform() < self.flip_y_probability
        if not (flip_x or flip_y):
            return sample
        matrix = np.diag([-1.0 if flip_x else 1.0, -1.0 if flip_y else 1.0, 1.0, 1.0])
        return move_scene(sample, matrix, op=type(self).__name__)


@TRANSFORMS.register_module()
class PointsRangeFilter:
    """Keep the points with ``low <= x, y, z < high``, as the voxelization does.

    Args:
        point_range: (x0, y0, z0, x1, y1, z1) in metres.
    Raises:
        ValueError: not six numbers, or low >= high.
    """

    def __init__(self, *, point_range: Sequence[float]) -> None:
        self.lower, self.upper = check_point_range("PointsRangeFilter", point_range)

    def __call__(self, sample: Sample) -> Sample:
        require_keys(sample, "PointsRangeFilter", "points")
        xyz = sample["points"][:, :3]
        return keep_points(sample, ((xyz >= self.lower) & (xyz < self.upper)).all(axis=1))


@TRANSFORMS.register_module()
class ShufflePoints:
    """Put the points into a random order, so that a limit on points or voxels keeps a fair choice of them."""

    def __call__(self, sample: Sample) -> Sample:
        rng = rng_of(sample, "ShufflePoints")
        require_keys(sample, "ShufflePoints", "points")
        return keep_points(sample, rng.permutation(len(sample["points"])))


@TRANSFORMS.register_module()
class SquashIntensity:
    """Replace each intensity by its hyperbolic tangent, for LiDARs that record numbers without a bound, as Waymo's:
    most are below 1, some above 100,000, which half precision does not hold."""

    def __call__(self, sample: Sample) -> Sample:
        require_keys(sample, "SquashIntensity", "points")
        points = sample["points"].copy()
        points[:, 3] = np.tanh(points[:, 3])
        return {**sample, "points": points}


def keep_points(sample: Sample, choice: np.ndarray) -> Sample:
    """Return the sample with the points of ``choice``, and what is told of each of them.

    Of a scan for segmentation the way back is kept: ``point_index`` names the recorded point of each one left, and
    ``recorded_labels`` are the labels of all recorded points.

    Args:
        sample: has ``points``.
        choice: (N,) bool, or integer indices in the wanted order.
    """
    if "num_recorded_points" in sample and "point_index" not in sample:
        sample = {**sample, "point_index": np.arange(len(sample["points"]))}
        if "point_labels" in sample:
            sample["recorded_labels"] = sample["point_labels"]
    return {**sample, **{key: sample[key][choice] for key in POINT_KEYS if key in sample}}


def move_scene(sample: Sample, matrix: np.ndarray, *, op: str = "move_scene") -> Sample:
    """Return the sample with points (if any), boxes (if any) and ``lidar_aug`` moved by a 4 x 4 matrix: a uniform scale
    times a rotation about z or a reflection, and a translation. Images stay: ``lidar_aug`` keeps the way back to them.
    """
    require_keys(sample, op, "lidar_aug")
    moved = {**sample, "lidar_aug": matrix @ sample["lidar_aug"]}
    if "points" in sample:
        moved["points"] = sample["points"].copy()
        x, y, z = (sample["points"][:, axis].astype(np.float64) for axis in range(3))
        for row in range(3):
            # No matmul: its last bit depends on the number of BLAS threads, and runs must repeat bit for bit.
            moved["points"][:, row] = x * matrix[row, 0] + y * matrix[row, 1] + z * matrix[row, 2] + matrix[row, 3]
    if "boxes" in sample:
        moved["boxes"] = transform_boxes(sample["boxes"], matrix).astype(np.float32, copy=False)
    return moved
