# SPDX-License-Identifier: Apache-2.0
"""Transforms: each does one job on a sample (docs/conventions.md); random ones draw from ``sample["rng"]`` alone.

A transform never changes the arrays it was given; it returns a new dict that shares what it left alone.
"""

from pcperc.transforms.boxes import BoxesClassFilter, BoxesRangeFilter
from pcperc.transforms.compose import Compose, RandomChoice
from pcperc.transforms.gt_paste import GTPaste
from pcperc.transforms.images import ResizeCrop, ResizeCropFlipRotate
from pcperc.transforms.map_masks import DrawMapMasks
from pcperc.transforms.mix import LaserMix, PolarMix
from pcperc.transforms.points import (
    GlobalScaleRotateTranslate,
    PointsRangeFilter,
    RandomFlip3D,
    ShufflePoints,
    SquashIntensity,
)

__all__ = [
    "BoxesClassFilter",
    "BoxesRangeFilter",
    "Compose",
    "DrawMapMasks",
    "GTPaste",
    "GlobalScaleRotateTranslate",
    "LaserMix",
    "PointsRangeFilter",
    "PolarMix",
    "RandomChoice",
    "RandomFlip3D",
    "ResizeCrop",
    "ResizeCropFlipRotate",
    "ShufflePoints",
    "SquashIntensity",
]
