# SPDX-License-Identifier: Apache-2.0
"""Transforms one after the other, and what all of them ask of a sample."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pcperc.registry import TRANSFORMS

Sample = dict[str, Any]


@TRANSFORMS.register_module()
class Compose:
    """Apply transforms in order; one that returns None drops the sample, and the rest is not applied.

    Args:
        transforms: transforms, or configs of registered ones.
    Raises:
        TypeError: an entry is neither.
    """

    def __init__(self, transforms: Sequence[Callable[[Sample], Sample | None] | dict]) -> None:
        self.transforms = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in transforms]
        for transform in self.transforms:
            if not callable(transform):
                raise TypeError(f"Compose: transforms must be callable or configs, got {transform!r}")

    def __call__(self, sample: Sample) -> Sample | None:
        for transform in self.transforms:
            sample = transform(sample)
            if sample is None:
                return None
        return sample

    def __repr__(self) -> str:
        return f"Compose({', '.join(type(t).__name__ for t in self.transforms)})"


@TRANSFORMS.register_module()
class RandomChoice:
    """Apply one of several transforms, drawn for each sample.

    Args:
        choices: transforms, configs of registered ones, or lists of these, applied one after the other.
        probabilities: of each choice, with the sum 1; None makes all alike.
    Raises:
        ValueError: no choice, or probabilities that are negative, not one for each or of another sum.
    """

    def __init__(self, *, choices: Sequence, probabilities: Sequence[float] | None = None) -> None:
        self.choices = [Compose(choice if isinstance(choice, list | tuple) else [choice]) for choice in choices]
        number = len(self.choices)
        if probabilities is None:
            probabilities = [1 / number] * number if number else []
        self.probabilities = np.asarray(probabilities, dtype=np.float64)
        if not number or self.probabilities.shape != (number,) or not (self.probabilities >= 0).all():
            raise ValueError(f"RandomChoice: probabilities must be >= 0, one for each of {number} choices >= 1")
        if abs(self.probabilities.sum() - 1) > 1e-9:
            raise ValueError(f"RandomChoice: probabilities must have the sum 1, got {self.probabilities.tolist()}")

    def __call__(self, sample: Sample) -> Sample | None:
        chosen = rng_of(sample, "RandomChoice").choice(len(self.choices), p=self.probabilities)
        return self.choices[int(chosen)](sample)


def require_keys(sample: Sample, op: str, *keys: str) -> None:
    """Raise KeyError naming the transform ``op`` where the sample lacks a key."""
    for key in keys:
        if key not in sample:
            raise KeyError(f"{op}: sample must have the key '{key}', got {sorted(sample)}")


def rng_of(sample: Sample, op: str) -> np.random.Generator:
    """Return the generator that the data set made for this sample: the only source of random numbers of a transform."""
    require_keys(sample, op, "rng")
    return sample["rng"]


def check_range(op: str, name: str, value: Sequence[float]) -> tuple[float, float]:
    """Return (low, high) as floats; ValueError unless low <= high, both finite."""
    pair = tuple(float(v) for v in value)
    if len(pair) != 2 or not np.isfinite(pair).all() or pair[0] > pair[1]:
        raise ValueError(f"{op}: {name} must be (low, high) with low <= high, got {tuple(value)}")
    return pair


def check_probability(op: str, name: str, value: float) -> float:
    """Return ``value``; ValueError unless it lies in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{op}: {name} must be in [0, 1], got {value}")
    return float(value)


def check_point_range(op: str, point_range: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return (x0, y0, z0) and (x1, y1, z1) as float32; ValueError unless low < high for each."""
    limits = np.asarray(point_range, dtype=np.float32)
    if limits.shape != (6,) or not (limits[:3] < limits[3:]).all():
        raise ValueError(f"{op}: point_range must be (x0, y0, z0, x1, y1, z1) with low < high, got {point_range}")
    return limits[:3], limits[3:]
