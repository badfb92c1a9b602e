# SPDX-License-Identifier: Apache-2.0
"""What a classification network says about one cloud."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CloudClass:
    """The class of a whole cloud.

    Attributes:
        label: index into the class names of the data set.
        score: in [0, 1], the probability of that class.
    """

    label: int
    score: float

    def to(self, device) -> CloudClass:
        """Return this: plain numbers are on no device."""
        return self

    def numpy(self) -> CloudClass:
        """Return this."""
        return self
