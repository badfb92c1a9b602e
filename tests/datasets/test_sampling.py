# SPDX-License-Identifier: Apache-2.0
"""Order of samples, their generators, and the balance of classes."""

from collections import Counter

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from pcperc.datasets.sampling import ClassBalancedSampler, EpochSampler, SampleKey, occurrences, sample_rng


class Numbers(Dataset):
    """Gives a random number for each key, as a transform would draw it."""

    def __init__(self, length: int = 20, labels=None):
        self.length, self.labels = length, labels

    def __len__(self):
        return self.length

    def __getitem__(self, key):
        key = SampleKey.of(key)
        return (*key, key.rng().integers(2**62))

    def sample_labels(self, index):
        return self.labels[index]


def as_rank(monkeypatch, rank: int, world_size: int) -> None:
    monkeypatch.setattr("pcperc.datasets.sampling.get_dist_info", lambda: (rank, world_size))


def test_a_pass_is_every_sample_once_in_another_order_each_epoch():
    sampler = EpochSampler(Numbers(50), seed=3)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert {key.epoch for key in keys} == {epoch} and {key.draw for key in keys} == {0}
        orders.append([key.index for key in keys])
        assert sorted(orders[-1]) == list(range(50))
    assert orders[0] != orders[1] != orders[2]
    sampler.set_epoch(1)
    assert [key.index for key in sampler] == orders[1]
    assert [key.index for key in EpochSampler(Numbers(50), shuffle=False, seed=3)] == list(range(50))


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("length", [1, 7, 24])
@pytest.mark.parametrize("round_up", [True, False])
def test_processes_share_a_pass(monkeypatch, world_size, length, round_up):
    parts = []
    for rank in range(world_size):
        as_rank(monkeypatch, rank, world_size)
        sampler = EpochSampler(Numbers(length), seed=5, round_up=round_up)
        parts.append(list(sampler))
        assert len(parts[-1]) == len(sampler)
    keys = [key for part in parts for key in part]
    assert {key.index for key in keys} == set(range(length))
    assert len(set(keys)) == len(keys)  # a sample repeated by rounding up is a draw of its own
    if round_up:
        assert len({len(part) for part in parts}) == 1
    else:
        assert len(keys) == length


def test_results_do_not_depend_on_workers():
    def run(**options):
        sampler = EpochSampler(Numbers(12), seed=1)
        loader = DataLoader(Numbers(12), batch_size=3, sampler=sampler, collate_fn=list, **options)
        rows = []
        for epoch in range(2):
            sampler.set_epoch(epoch)
            rows += [row for batch in loader for row in batch]
        return rows

    alone = run()
    assert run(num_workers=2, persistent_workers=True) == alone
    assert len({row[-1] for row in alone}) == 24  # another random number for each sample of each epoch


def test_skip_next_is_the_rest_of_the_pass_and_holds_once():
    sampler = EpochSampler(Numbers(10), seed=2)
    whole = list(sampler)
    sampler.skip_next(4)
    assert len(sampler) == 10
    assert list(sampler) == whole[4:]
    assert list(sampler) == whole
    with pytest.raises(ValueError, match=r"num_samples must be in \[0, 10\], got 11"):
        sampler.skip_next(11)


def test_cbgs_gives_every_class_its_share():
    # Class 0 in all 90 samples, 1 in 9, 2 in one: 100 draws by the published rule, 33 a class.
    labels = [[0, 0, 0] + [1] * (i % 10 == 0) + [2] * (i == 5) for i in range(90)]
    sampler = ClassBalancedSampler(Numbers(90, labels), seed=0)
    keys = list(sampler)
    assert len(keys) == len(sampler) == 99
    assert len(set(keys)) == 99  # copies differ in `draw`
    counts = Counter(key.index for key in keys)
    assert 33 <= counts[5] <= 33 + 6  # the only one with class 2
    assert 33 <= sum(counts[i] for i in range(0, 90, 10)) <= 33 + 14
    sampler.set_epoch(1)
    assert list(sampler) != keys
    sampler.set_epoch(0)
    assert list(sampler) == keys


def test_cbgs_shares_between_processes(monkeypatch):
    labels = [[i % 3] for i in range(7)]
    parts = []
    for rank in range(2):
        as_rank(monkeypatch, rank, 2)
        parts.append(list(ClassBalancedSampler(Numbers(7, labels), seed=4)))
    as_rank(monkeypatch, 0, 1)
    whole = list(ClassBalancedSampler(Numbers(7, labels), seed=4))
    assert parts[0] == whole[::2] and parts[1][: len(whole) // 2] == whole[1::2]
    assert len(parts[0]) == len(parts[1])


def test_sampler_errors():
    with pytest.raises(ValueError, match="EpochSampler: dataset must have at least one sample"):
        EpochSampler(Numbers(0), seed=0)
    with pytest.raises(ValueError, match="ClassBalancedSampler: dataset must have at least one box"):
        ClassBalancedSampler(Numbers(2, [[], []]), seed=0)
    with pytest.raises(TypeError, match=r"must have sample_labels\(index\), got list"):
        ClassBalancedSampler([1, 2], seed=0)


def test_keys_and_generators():
    assert SampleKey.of(7) == SampleKey.of(np.int64(7)) == (0, 7, 0, 0)
    assert SampleKey.of((2, 7)) == (2, 7, 0, 0)
    key = SampleKey(2, 7, 1, 3)
    assert SampleKey.of(tuple(key)) == SampleKey.of(key) == key
    for wrong in ("7", (1,), (1, 2.5), None):
        with pytest.raises(TypeError, match="SampleKey: key must be an index or"):
            SampleKey.of(wrong)
    assert sample_rng(3, 2, 7, 1).integers(2**62) == key.rng().integers(2**62)
    numbers = {sample_rng(*np.unravel_index(i, (3, 3, 3, 3))).integers(2**62) for i in range(81)}
    assert len(numbers) == 81


def test_occurrences_by_hand():
    np.testing.assert_array_equal(occurrences(np.array([4, 2, 4, 4, 2, 9])), [0, 0, 1, 2, 1, 0])
