# SPDX-License-Identifier: Apache-2.0
"""What tells one subnet of SPVNAS from another."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

NUM_WIDTHS = 9  # stem, four stages down, four stages up
NUM_STAGES = 8


@dataclass(frozen=True)
class Subnet:
    """Channels and depth of each stage; equal ones are equal and have one hash. Lists become tuples.

    Raises:
        TypeError: a value that is no list of whole numbers.
        ValueError: not as many numbers as said below, or one below 1.
    """

    widths: tuple[int, ...]  # channels of the stem, the four stages down and the four stages up
    transitions: tuple[int, ...]  # channels behind the strided convolution of each of the eight stages
    inner_widths: tuple[tuple[int, ...], ...]  # of each stage, for each block, those between its two convolutions

    def __post_init__(self):
        object.__setattr__(self, "widths", _numbers("widths", self.widths, NUM_WIDTHS))
        object.__setattr__(self, "transitions", _numbers("transitions", self.transitions, NUM_STAGES))
        if not isinstance(self.inner_widths, list | tuple) or len(self.inner_widths) != NUM_STAGES:
            raise ValueError(f"Subnet: inner_widths must be {NUM_STAGES} lists, got {self.inner_widths!r}")
        inner = tuple(_numbers(f"inner_widths[{i}]", blocks, None) for i, blocks in enumerate(self.inner_widths))
        object.__setattr__(self, "inner_widths", inner)

    @property
    def depths(self) -> tuple[int, ...]:
        """Residual blocks of each of the eight stages."""
        return tuple(len(blocks) for blocks in self.inner_widths)

    @property
    def options(self) -> dict:
        """The arguments of ``SPVCNN`` that make this network: ``SPVCNN(4, 19, **subnet.options)``."""
        return {**asdict(self), "project_first": True}

    def to_json(self) -> str:
        """One line of JSON, the same for equal subnets."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> "Subnet":
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: no JSON, a key that is missing or unknown, or what the constructor raises.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ValueError(f"Subnet.from_json: text must be JSON, got {str(text)[:80]!r} ({error})") from error
        keys = ("widths", "transitions", "inner_widths")
        if not isinstance(values, Mapping) or set(values) != set(keys):
            got = sorted(values) if isinstance(values, Mapping) else type(values).__name__
            raise ValueError(f"Subnet.from_json: text must be an object with the keys {', '.join(keys)}, got {got}")
        return cls(**values)


def _numbers(name: str, values: object, count: int | None) -> tuple[int, ...]:
    if not isinstance(values, list | tuple) or not all(type(v) is int for v in values):
        raise TypeError(f"Subnet: {name} must be a list of whole numbers, got {values!r}")
    if min(values, default=0) < 1 or (count is not None and len(values) != count):
        wanted = "one or more numbers" if count is None else f"{count} numbers"
        raise ValueError(f"Subnet: {name} must be {wanted} >= 1, got {values!r}")
    return tuple(values)
