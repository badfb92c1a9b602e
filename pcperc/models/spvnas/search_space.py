# SPDX-License-Identifier: Apache-2.0
"""The subnets that a super network has."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pcperc.models.spvnas.subnet import NUM_WIDTHS, Subnet
from pcperc.registry import MODELS

MAX_WIDTHS = (32, 48, 96, 192, 384, 384, 192, 128, 128)
MIN_WIDTHS = (32, 16, 32, 64, 128, 128, 64, 48, 48)
DIVISOR = 16


def make_divisible(channels: float) -> int:
    """Round down to a multiple of 16, at least 16."""
    return max(DIVISOR, int(channels) // DIVISOR * DIVISOR)


@MODELS.register_module()
@dataclass(frozen=True)
class SearchSpace:
    """For each number of a ``Subnet``, the values it may take, smallest first; each is free of the others.

    The published space: stages from their lower bounds to ``max_widths``, the stem fixed; the channels behind a strided
    convolution and inside a residual block from ``min_ratio`` to 1 of the largest the place has; one or two blocks; all
    widths multiples of 16.

    Args:
        max_widths, min_widths: of the stem, the four stages down and the four stages up.
        min_ratio: in (0, 1].
        depths: numbers of blocks that a stage may have.
    Raises:
        ValueError: not nine widths, a lower bound above the upper one, or a ratio outside (0, 1].
    Source: Tang et al., ECCV 2020, section 3.2, and the code published with it.
    """

    max_widths: Sequence[int] = MAX_WIDTHS
    min_widths: Sequence[int] = MIN_WIDTHS
    min_ratio: float = 0.125
    depths: Sequence[int] = (1, 2)

    def __post_init__(self):
        for name in ("max_widths", "min_widths", "depths"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        bounds = list(zip(self.min_widths, self.max_widths, strict=False))
        lengths = (len(self.min_widths), len(self.max_widths))
        if lengths != (NUM_WIDTHS, NUM_WIDTHS) or any(not 1 <= low <= high for low, high in bounds):
            raise ValueError(
                "SearchSpace: min_widths and max_widths must be nine numbers each with 1 <= min <= max, "
                f"got {self.min_widths} and {self.max_widths}"
            )
        if not 0 < self.min_ratio <= 1:
            raise ValueError(f"SearchSpace: min_ratio must be in (0, 1], got {self.min_ratio}")
        if not self.depths or min(self.depths) < 1 or tuple(sorted(set(self.depths))) != self.depths:
            raise ValueError(f"SearchSpace: depths must be rising whole numbers >= 1, got {self.depths}")

    @property
    def widths(self) -> tuple[tuple[int, ...], ...]:
        """Choices of each of the nine widths."""
        stem = (self.max_widths[0],)
        return (stem, *(_choices(a, b) for a, b in zip(self.min_widths[1:], self.max_widths[1:], strict=True)))

    @property
    def transitions(self) -> tuple[tuple[int, ...], ...]:
        """Choices of the channels behind each strided convolution."""
        return tuple(self._ratios(channels) for channels in self.max_widths[:4] + self.max_widths[5:])

    @property
    def inner_widths(self) -> tuple[tuple[int, ...], ...]:
        """Choices of the channels inside each block, for each stage."""
        return tuple(self._ratios(channels) for channels in self.max_widths[1:])

    @property
    def num_subnets(self) -> int:
        """How many there are."""
        blocks = (sum(len(inner) ** depth for depth in self.depths) for inner in self.inner_widths)
        return math.prod(map(len, self.widths)) * math.prod(map(len, self.transitions)) * math.prod(blocks)

    def largest(self) -> Subnet:
        return self._at(-1)

    def smallest(self) -> Subnet:
        return self._at(0)

    def sample(self, rng: np.random.Generator) -> Subnet:
        """Draw every number by itself, all its choices equally likely.

        (The published code draws a real number and rounds it down, which hardly ever gives the largest choice.)
        """

        def draw(choices: Sequence[int]) -> int:
            return int(choices[rng.integers(len(choices))])

        return Subnet(
            tuple(map(draw, self.widths)),
            tuple(map(draw, self.transitions)),
            tuple(tuple(draw(inner) for _ in range(draw(self.depths))) for inner in self.inner_widths),
        )

    def check(self, subnet: Subnet, *, op: str = "SearchSpace") -> None:
        """Raise where ``subnet`` is not in this space.

        Raises:
            TypeError: no Subnet. ValueError: names the first number that does not fit; messages begin with ``op``.
        """
        if not isinstance(subnet, Subnet):
            raise TypeError(f"{op}: subnet must be a Subnet, got {type(subnet).__name__}")
        for name in ("widths", "transitions"):
            for i, (value, choices) in enumerate(zip(getattr(subnet, name), getattr(self, name), strict=True)):
                _check_choice(op, f"{name}[{i}]", value, choices)
        for i, (blocks, choices) in enumerate(zip(subnet.inner_widths, self.inner_widths, strict=True)):
            _check_choice(op, f"number of blocks in inner_widths[{i}]", len(blocks), self.depths)
            for j, value in enumerate(blocks):
                _check_choice(op, f"inner_widths[{i}][{j}]", value, choices)

    def _ratios(self, channels: int) -> tuple[int, ...]:
        return _choices(make_divisible(self.min_ratio * channels), channels)

    def _at(self, end: int) -> Subnet:
        widths, transitions = (tuple(choices[end] for choices in each) for each in (self.widths, self.transitions))
        return Subnet(widths, transitions, tuple((inner[end],) * self.depths[end] for inner in self.inner_widths))


def _choices(low: int, high: int) -> tuple[int, ...]:
    """Multiples of 16 between the two."""
    return tuple(range(make_divisible(low), make_divisible(high) + 1, DIVISOR))


def _check_choice(op: str, name: str, value: int, choices: Sequence[int]) -> None:
    if value not in choices:
        raise ValueError(f"{op}: {name} of the subnet must be one of {', '.join(map(str, choices))}, got {value}")
