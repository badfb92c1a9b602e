# SPDX-License-Identifier: Apache-2.0
"""What networks and groupings of hits ask of the numbers that they are made of; messages begin with the class."""

import math
from numbers import Integral, Real


def check_counts(owner: object, *, most: float = math.inf, **values: int) -> None:
    """Require whole numbers from 1 to ``most``.

    Raises:
        TypeError: no whole number. ValueError: one out of range.
    """
    wanted = ">= 1" if most == math.inf else f"from 1 to {most}"
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise TypeError(f"{type(owner).__name__}: {name} must be a whole number, got {value!r}")
        if not 1 <= value <= most:
            raise ValueError(f"{type(owner).__name__}: {name} must be {wanted}, got {value}")


def check_positive(owner: object, **values: float) -> None:
    """Require finite numbers above 0; raises as `check_part`."""
    for name, value in values.items():
        _check(owner, name, value, 0 < _number(owner, name, value) < math.inf, "finite and > 0")


def check_not_negative(owner: object, **values: float) -> None:
    """Require finite numbers from 0 on; raises as `check_part`."""
    for name, value in values.items():
        _check(owner, name, value, 0 <= _number(owner, name, value) < math.inf, "finite and >= 0")


def check_part(owner: object, **values: float) -> None:
    """Require numbers from 0 to below 1.

    Raises:
        TypeError: no number. ValueError: one out of range, or NaN.
    """
    for name, value in values.items():
        _check(owner, name, value, 0 <= _number(owner, name, value) < 1, "in [0, 1)")


def _number(owner: object, name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{type(owner).__name__}: {name} must be a number, got {value!r}")
    return value


def _check(owner: object, name: str, value: float, is_good: bool, wanted: str) -> None:
    if not is_good:
        raise ValueError(f"{type(owner).__name__}: {name} must be {wanted}, got {value}")
