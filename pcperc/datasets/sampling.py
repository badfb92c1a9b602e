# SPDX-License-Identifier: Apache-2.0
"""Which sample comes next, and where its random numbers come from.

A sampler of this file yields `SampleKey`s, not bare indices. The key says everything a random draw may depend on, and
the data set hands the transforms a generator made from it. So a run does not depend on the number of workers or on how
long they live, and a resumed run repeats bit for bit: nothing random is remembered anywhere.
"""

from collections.abc import Iterator
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from pcperc.registry import DATA_SAMPLERS


class SampleKey(NamedTuple):
    """What a data set's ``__getitem__`` takes: the position of a sample and all that its random draws depend on."""

    epoch: int
    index: int
    draw: int = 0  # how often this index has come before in the same epoch: its copies are augmented differently
    seed: int = 0

    @classmethod
    def of(cls, key: Any) -> "SampleKey":
        """Return ``key`` as a SampleKey: one already, ``(epoch, index[, draw[, seed]])``, or an index of epoch 0.

        Raises:
            TypeError: anything else.
        """
        if isinstance(key, Integral):
            return cls(0, int(key))
        if isinstance(key, tuple) and 2 <= len(key) <= 4 and all(isinstance(part, Integral) for part in key):
            return cls(*(int(part) for part in key))
        raise TypeError(f"SampleKey: key must be an index or (epoch, index[, draw[, seed]]), got {key!r}")

    def rng(self) -> np.random.Generator:
        """Return the generator of all random draws made for this sample."""
        return sample_rng(self.seed, self.epoch, self.index, self.draw)


def sample_rng(seed: int, epoch: int, index: int, draw: int = 0) -> np.random.Generator:
    """Return a generator that depends on nothing but the four non-negative numbers."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch, index, draw))))


@DATA_SAMPLERS.register_module()
class EpochSampler(Sampler):
    """Every sample once an epoch, in an order made from the seed and the epoch; each process takes every n-th.

    Args:
        dataset: anything with ``__len__``.
        shuffle: False keeps the order of the data set.
        seed: non-negative; None draws one and shares it between the processes. MMEngine's Runner gives its own.
        round_up: repeat the first samples until all processes get the same number. Leave it on for training.
        repeats: passes over the data set that make one epoch, >= 1; for sets of a few samples.
    Raises:
        ValueError: the data set is empty, or repeats < 1.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        shuffle: bool = True,
        seed: int | None = None,
        round_up: bool = True,
        repeats: int = 1,
    ) -> None:
        if len(dataset) == 0:
            raise ValueError(f"{type(self).__name__}: dataset must have at least one sample, got none")
        if repeats < 1:
            raise ValueError(f"{type(self).__name__}: repeats must be >= 1, got {repeats}")
        self.repeats = repeats
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else int(seed)
        self.round_up = round_up
        self.rank, self.world_size = get_dist_info()
        self.epoch = 0
        self._skip = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; MMEngine's loops call it. Persistent workers learn it from the keys."""
        self.epoch = int(epoch)

    def skip_next(self, num_samples: int) -> None:
        """Leave out the first ``num_samples`` keys of this process in the next pass alone, to resume in mid-epoch.

        ``len`` stays the length of a whole pass.
        """
        if not 0 <= num_samples <= len(self):
            raise ValueError(f"skip_next: num_samples must be in [0, {len(self)}], got {num_samples}")
        self._skip = int(num_samples)

    def __len__(self) -> int:
        total = self._total()
        if self.round_up:
            return -(-total // self.world_size)
        return len(range(self.rank, total, self.world_size))

    def __iter__(self) -> Iterator[SampleKey]:
        indices = self._indices(np.random.default_rng(np.random.SeedSequence((self.seed, self.epoch))))
        draws = occurrences(indices)
        positions = np.arange(self.rank, self.rank + len(self) * self.world_size, self.world_size)
        skip, self._skip = self._skip, 0
        for position in positions[skip:]:
            lap, position = divmod(int(position), len(indices))  # lap > 0: a sample repeated by round_up
            yield SampleKey(self.epoch, int(indices[position]), int(draws[position]) + lap, self.seed)

    def _total(self) -> int:
        return len(self.dataset) * self.repeats

    def _indices(self, rng: np.random.Generator) -> np.ndarray:
        """Return the indices of one epoch over all processes."""
        order = rng.permutation(self._total()) if self.shuffle else np.arange(self._total())
        return order % len(self.dataset)


@DATA_SAMPLERS.register_module()
class ClassBalancedSampler(EpochSampler):
    """Class-balanced grouping and sampling (CBGS): every class is given the same number of draws.

    With n_c samples that contain class c, an epoch has sum(n_c) draws, an equal share for each class that occurs, drawn
    with replacement from the samples that contain it (so 28,130 nuScenes training samples become about 123,580). The
    draws are made anew each epoch, where the published code makes them once: the expectation is the same and no sample
    is left out for good.

    Args:
        dataset: has ``__len__`` and ``sample_labels(index)``, which gives the labels of the boxes of a sample (repeats
            are allowed) without reading its points or images.
        seed, round_up: see EpochSampler.
    Raises:
        TypeError: the data set has no ``sample_labels``.
        ValueError: no sample has any box.
    Source: Zhu et al., Class-balanced Grouping and Sampling for Point Cloud 3D Object Detection, 2019, section 3.1.
    """

    def __init__(self, dataset: Any, *, seed: int | None = None, round_up: bool = True) -> None:
        super().__init__(dataset, shuffle=True, seed=seed, round_up=round_up)
        if not hasattr(dataset, "sample_labels"):
            raise TypeError(
                f"ClassBalancedSampler: dataset must have sample_labels(index), got {type(dataset).__name__}"
            )
        groups: dict[int, list[int]] = {}
        for index in range(len(dataset)):
            for label in np.unique(np.asarray(dataset.sample_labels(index), dtype=np.int64)):
                groups.setdefault(int(label), []).append(index)
        if not groups:
            raise ValueError("ClassBalancedSampler: dataset must have at least one box, got none")
        self.groups = {label: np.asarray(groups[label], dtype=np.int64) for label in sorted(groups)}
        share = sum(len(group) for group in self.groups.values()) / len(self.groups)
        self.draws_per_class = max(1, round(share))

    def _total(self) -> int:
        return self.draws_per_class * len(self.groups)

    def _indices(self, rng: np.random.Generator) -> np.ndarray:
        drawn = [rng.choice(group, self.draws_per_class, replace=True) for group in self.groups.values()]
        return rng.permutation(np.concatenate(drawn))


def occurrences(values: np.ndarray) -> np.ndarray:
    """Return, for each of the (N,) values, how often it occurs before its position, (N,) int64."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.diff(np.append(starts, len(values)))
    result = np.empty(len(values), dtype=np.int64)
    result[order] = np.arange(len(values)) - np.repeat(starts, counts)
    return result
