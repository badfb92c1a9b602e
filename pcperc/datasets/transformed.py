# SPDX-License-Identifier: Apache-2.0
"""What every data set does with the samples that it reads: give them to the transforms, each with own randomness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from pcperc.datasets.sampling import SampleKey

# A training sample that its transforms drop is replaced by another one, at the most this often.
MAX_REPLACEMENTS = 100


class TransformedDataset(Dataset):
    """Base of the data sets: a subclass has ``__len__`` and ``read_sample(index)``, which never augments.

    One that draws what it reads has ``draw_sample(index, rng)`` too, whose result transforms get.

    Args:
        split: its name, for messages.
        transforms: callables applied in order to each sample; one that returns None drops the sample.
        test_mode: a sample that a transform drops is an error instead of being replaced by another one.
    """

    def __init__(
        self, *, split: str, transforms: Sequence[Callable[[dict], dict | None]] = (), test_mode: bool = False
    ) -> None:
        self.split, self.transforms, self.test_mode = split, list(transforms), test_mode

    def __len__(self) -> int:
        raise NotImplementedError

    def read_sample(self, index: int) -> dict:
        """Return a sample without transforms."""
        raise NotImplementedError

    def draw_sample(self, index: int, rng: np.random.Generator) -> dict:
        """Return a sample without transforms; for data sets that draw what they read."""
        return self.read_sample(index)

    def __getitem__(self, key) -> dict:
        """Return the transformed sample of a `SampleKey`, or of an index (then of epoch 0)."""
        key = SampleKey.of(key)
        rng, index = key.rng(), key.index
        for _ in range(MAX_REPLACEMENTS):
            sample = self._transformed(index, key.epoch, rng)
            if sample is not None:
                return sample
            if self.test_mode:
                raise ValueError(f"{self._name}: a transform dropped sample {index}, which test_mode forbids")
            index = int(rng.integers(len(self)))
        raise ValueError(f"{self._name}: the transforms dropped {MAX_REPLACEMENTS} samples of {self.split} in a row")

    def _transformed(self, index: int, epoch: int, rng: np.random.Generator) -> dict | None:
        sample = self._with_randomness(index, epoch, rng)
        for transform in self.transforms:
            sample = transform(sample)
            if sample is None:
                return None
        return sample

    def _with_randomness(self, index: int, epoch: int, rng: np.random.Generator) -> dict:
        draw_other = partial(self._draw, epoch=epoch, rng=rng)
        return {**self.draw_sample(index, rng), "epoch": epoch, "rng": rng, "draw_other": draw_other}

    def _draw(self, *, epoch: int, rng: np.random.Generator) -> dict:
        """Return a sample without transforms, drawn by the generator of the sample that is to be mixed with it."""
        return self._with_randomness(int(rng.integers(len(self))), epoch, rng)

    def check_index(self, index: int) -> int:
        """Return ``index`` counted from the front.

        Raises:
            IndexError: no such sample.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self._name}: index must be in [0, {len(self)}), got {index}")
        return int(index) % len(self)

    @property
    def _name(self) -> str:
        return type(self).__name__


def read_file(path: str | Path, what: str) -> bytes:
    """Return the content of a file that a data set lists.

    Raises:
        FileNotFoundError: no such file; the message names it.
        ValueError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{what} {path} is missing, though the data set lists it") from error
    except OSError as error:
        raise ValueError(f"{what} {path} cannot be read: {error}") from error
