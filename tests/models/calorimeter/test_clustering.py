# SPDX-License-Identifier: Apache-2.0
"""Both clusterings against slow references; events of which there is nothing; no copies to the host in between."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc.models.calorimeter import clustering, condense, mean_shift
from tests import oracles_calorimeter as oracle


def hits(rng, count, dims=3, spread=1.0, groups=2):
    # Quarters of whole numbers: distances are exact, and ties in beta and distance occur.
    x = np.round(rng.normal(size=(count, dims)) * spread * 4) / 4
    return x, np.round(rng.uniform(0, 1, count) * 8) / 8, rng.integers(-1, groups, count)


@pytest.mark.parametrize("count", [0, 1, 2, 40, 300])
def test_condense_equals_the_loop(count, device):
    x, beta, group = hits(np.random.default_rng(count), count, spread=3.0)
    found = condense(*(torch.as_tensor(v, device=device) for v in (x, beta, group)), radius=1.0, min_beta=0.25)
    assert found.device.type == device.type and found.dtype == torch.int64
    assert found.tolist() == oracle.condense(x, beta, group, 1.0, 0.25).tolist()


@given(st.integers(0, 60), st.integers(0, 1000), st.sampled_from([0.3, 1.0, 5.0]), st.sampled_from([-1.0, 0.1, 0.9]))
@settings(max_examples=40, deadline=None)
def test_condense_of_any_event(count, seed, radius, min_beta):
    x, beta, group = hits(np.random.default_rng(seed), count)
    found = condense(*map(torch.tensor, (x.astype(np.float32), beta, group)), radius=radius, min_beta=min_beta)
    assert found.tolist() == oracle.condense(x, beta, group, radius, min_beta).tolist()


def test_condense_of_all_noise_of_small_charges_and_of_what_is_no_number():
    x = torch.randn(50, 2)
    assert (condense(x, torch.ones(50), torch.full((50,), -1), radius=1.0) == -1).all()
    assert (condense(x, torch.full((50,), 0.1), torch.zeros(50, dtype=torch.int64), radius=1.0) == -1).all()
    found = condense(x * torch.nan, torch.ones(50), torch.zeros(50, dtype=torch.int64), radius=1.0)
    assert found.tolist() == list(range(50))  # it ends, and every hit is alone


def test_condense_of_a_chain_of_hits():
    """Each hit is near the one before it, so that every second one is a centre."""
    x, beta = 0.75 * torch.arange(100.0)[:, None], torch.linspace(0.9, 0.2, 100)
    found = condense(x, beta, torch.zeros(100, dtype=torch.int64), radius=1.0)
    assert found.tolist() == [row - row % 2 for row in range(100)]


@pytest.mark.gpu
def test_condense_waits_once():
    """The host asks for the number of groups, whatever the number of hits and centres."""
    x = torch.arange(2000.0, device="cuda")[:, None] * 10
    beta, group = torch.linspace(0.2, 0.9, 2000, device="cuda"), torch.zeros(2000, dtype=torch.int64, device="cuda")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            condense(x, beta, group, radius=1.0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert len([warning for warning in seen if "called a synchronizing" in str(warning.message)]) == 1


def clouds(rng, centres, count, spread):
    return np.concatenate([centre + spread * rng.uniform(-1, 1, (count, centres.shape[1])) for centre in centres])


@pytest.mark.parametrize("chunk", [2**24, 64])
def test_mean_shift_equals_the_loop(chunk, device, monkeypatch):
    monkeypatch.setattr(clustering, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    x = clouds(rng, rng.uniform(-3, 3, (6, 3)), 15, 0.4)
    group = np.repeat([0, 0, 1, 1, -1, 1], 15)
    found = mean_shift(torch.as_tensor(x, device=device), torch.as_tensor(group, device=device), bandwidth=0.5).cpu()
    expected, count = np.full(len(x), -1), 0
    for value in (0, 1):
        expected[group == value] = count + oracle.mean_shift(x[group == value], 0.5)
        count = expected.max() + 1
    assert found.tolist() == expected.tolist()
    assert count > 4


@given(st.lists(st.integers(-12, 12), min_size=1, max_size=30), st.sampled_from([0.5, 1.0, 1.25]))
@settings(max_examples=60, deadline=None)
def test_mean_shift_of_any_event(quarters, bandwidth):
    """On a line of quarters distances are exact: hits just at the bandwidth, and modes with as many hits, occur."""
    x = np.array(quarters)[:, None] / 4
    found = mean_shift(torch.tensor(x), torch.zeros(len(x), dtype=torch.int64), bandwidth=bandwidth)
    assert found.tolist() == oracle.mean_shift(x, bandwidth).tolist()


@pytest.mark.parametrize("seed", range(6))
def test_mean_shift_of_clouds_without_gaps(seed):
    """Where hits are everywhere, seeds go far and slowly, and where they begin decides where they rest."""
    x = np.random.default_rng(seed).uniform(-2, 2, (150, 2))
    found = mean_shift(torch.tensor(x), torch.zeros(len(x), dtype=torch.int64), bandwidth=0.6)
    expected = oracle.mean_shift(x, 0.6)
    assert found.tolist() == expected.tolist() and expected.max() > 4


def test_mean_shift_equals_scikit_learn():
    cluster = pytest.importorskip("sklearn.cluster")
    rng = np.random.default_rng(1)
    x = clouds(rng, 4 * np.eye(8)[:5], 40, 0.5)
    expected = cluster.MeanShift(bandwidth=1.0, bin_seeding=True).fit(x).labels_
    found = mean_shift(torch.tensor(x), torch.zeros(len(x), dtype=torch.int64), bandwidth=1.0)
    assert oracle.same_partition(found, expected) and len(set(expected)) == 5


@pytest.mark.parametrize("count", [0, 1, 2])
def test_mean_shift_of_few_hits_and_of_noise(count):
    x = 10.0 * torch.arange(count)[:, None].expand(-1, 3)
    assert mean_shift(x, torch.zeros(count, dtype=torch.int64), bandwidth=1.0).sort()[0].tolist() == list(range(count))
    assert mean_shift(x, torch.full((count,), -1), bandwidth=1.0).tolist() == [-1] * count


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_mean_shift_leaves_out_what_is_not_finite(value, device):
    """One such hit in each of two groups, beside a group of nothing else: all others are where they were."""
    rng = np.random.default_rng(0)
    x = clouds(rng, 4 * np.eye(3), 12, 0.3)
    group = np.tile([0, 1], 18)
    expected = mean_shift(torch.tensor(x), torch.tensor(group), bandwidth=0.8)
    assert len(expected.unique()) == 6
    x, group = np.concatenate([x, rng.normal(size=(4, 3))]), np.append(group, [0, 1, 2, 2])
    order = rng.permutation(40)
    there = torch.tensor(x[order], device=device)
    bad = torch.tensor(order >= 36, device=device)
    there[bad, 1] = value
    found = mean_shift(there, torch.tensor(group[order], device=device), bandwidth=0.8)
    assert (found[bad] == -1).all()
    assert found.cpu()[torch.tensor(order).argsort()][:36].tolist() == expected.tolist()
    assert mean_shift(there * torch.nan, torch.zeros(40, dtype=torch.int64, device=device), bandwidth=0.8).max() == -1


def test_mean_shift_of_hits_that_are_farther_than_a_grid_reaches():
    """At a million and more float32 has no middle of a cell within 0.01 of its hits."""
    for far in (1.2345679e6, 3e38):
        x = torch.tensor([[far], [far]])
        assert mean_shift(x, torch.zeros(2, dtype=torch.int64), bandwidth=0.01).tolist() == [0, 0]


@pytest.mark.parametrize("call, name", [(condense, "radius"), (mean_shift, "bandwidth")])
def test_messages(call, name):
    x, group = torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)
    first = (x, torch.zeros(3)) if call is condense else (x,)
    for value in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"^{call.__name__}: {name} must be finite and > 0, got {value}"):
            call(*first, group, **{name: value})
    with pytest.raises(ValueError, match=rf"{call.__name__}: x must be \(N, D\) and the others \(N,\)"):
        call(*first, group[:2], **{name: 1.0})
