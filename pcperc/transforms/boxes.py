# SPDX-License-Identifier: Apache-2.0
"""Filters of the annotated boxes."""

from collections.abc import Sequence

import numpy as np

from pcperc.registry import TRANSFORMS
from pcperc.transforms.compose import Sample, check_point_range, require_keys

BOX_KEYS = ("boxes", "labels", "num_lidar_pts")


@TRANSFORMS.register_module()
class BoxesRangeFilter:
    """Keep the boxes whose centre lies in the range seen from above; z does not count.

    Args:
        point_range: (x0, y0, z0, x1, y1, z1) in metres; z0 and z1 are ignored.
    Raises:
        ValueError: not six numbers, or low >= high.
    """

    def __init__(self, *, point_range: Sequence[float]) -> None:
        self.lower, self.upper = check_point_range("BoxesRangeFilter", point_range)

    def __call__(self, sample: Sample) -> Sample:
        require_keys(sample, "BoxesRangeFilter", "boxes")
        centres = sample["boxes"][:, :2]
        return keep_boxes(sample, ((centres >= self.lower[:2]) & (centres < self.upper[:2])).all(axis=1))


@TRANSFORMS.register_module()
class BoxesClassFilter:
    """Keep the boxes of some classes, for a model that detects fewer than the data set annotates.

    Args:
        labels: indices into the data set's classes; they are not renumbered.
    """

    def __init__(self, *, labels: Sequence[int]) -> None:
        self.labels = np.asarray(labels, dtype=np.int64)

    def __call__(self, sample: Sample) -> Sample:
        require_keys(sample, "BoxesClassFilter", "boxes", "labels")
        return keep_boxes(sample, np.isin(sample["labels"], self.labels))


def keep_boxes(sample: Sample, mask: np.ndarray) -> Sample:
    """Return the sample with the boxes where the (K,) mask is true, and what belongs to them."""
    return {**sample, **{key: sample[key][mask] for key in BOX_KEYS if key in sample}}
