# SPDX-License-Identifier: Apache-2.0
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc import ops
from tests import oracles_calorimeter as oracle
from tests.op_contract import Mistake, OpContract, Sample

NAMES = ("points", "beta", "item")


def hits(count, *, columns=3, items=2, spread=2.0, seed=0):
    """Quarters of whole numbers, so that distances are exact, and eighths of beta: ties of both occur."""
    rng = np.random.default_rng(seed)
    points = np.round(rng.normal(size=(count, columns)) * spread * 4) / 4
    beta, item = np.round(rng.uniform(0, 1, count) * 8) / 8, rng.integers(-1, items + 1, count)
    return dict(zip(NAMES, map(torch.as_tensor, (points, beta, item)), strict=True))


def sample_of(name, count, *, items=2, radius=1.0, min_beta=0.25, **options):
    tensors = hits(count, items=items, **options)
    return Sample(name, tensors, {"num_items": items, "radius": radius, "min_beta": min_beta}, terms_summed=1)


def expected(points, beta, item, *, num_items, radius, min_beta):
    inside = np.where((item >= 0) & (item < num_items), item, -1)
    return np.asarray(oracle.condense(points.astype(np.float64), beta, inside, radius, min_beta), dtype=np.int32)


class TestCondense(OpContract):
    dtypes = (torch.float64, torch.float32)

    @staticmethod
    def samples():
        return [
            sample_of("random", 300),
            sample_of("more_centres_than_a_warp_has_lanes", 600, items=1, radius=0.5, spread=3.0),
            sample_of("more_hits_than_a_block_has_threads", 2500, columns=2, radius=2.0),
            sample_of("few_free_hits_in_each_thousand", 6000, columns=2, items=1, radius=2.5),
            sample_of("many_centres_in_each_thousand", 5000, items=1, radius=0.5, spread=5.0),
            sample_of("one_column", 80, columns=1, spread=10.0),
            sample_of("many_columns", 40, columns=128, radius=20.0),
            sample_of("many_items", 200, items=40),
            sample_of("all_are_centres_of_their_own", 100, radius=0.25, spread=50.0),
            sample_of("one_centre", 100, radius=100.0, items=1),
            sample_of("no_candidate", 50, min_beta=1.0),
            sample_of("all_are_candidates", 70, min_beta=-1.0),
            sample_of("no_items", 20, items=0),
            sample_of("no_hits", 0),
            sample_of("one_hit", 1, items=1),
        ]

    @staticmethod
    def call(sample):
        return ops.condense(*(sample.tensors[name] for name in NAMES), **sample.options)

    @staticmethod
    def oracle(sample):
        return expected(*(sample.tensors[name].numpy() for name in NAMES), **sample.options)

    @staticmethod
    def overloads(sample):
        points, beta, item = (sample.tensors[name] for name in NAMES)
        by_beta = beta.argsort(descending=True, stable=True)
        items = ops.make_segments(item[by_beta], num_segments=sample.options["num_items"])
        order = by_beta[items.order].int()
        registered = points, beta.to(points.dtype), order, items.starts
        return [(torch.ops.pcperc.condense.default, (*registered, 1.0, 0.25))]

    @staticmethod
    def mistakes():
        points, beta, item = hits(12).values()

        def call(points=points, beta=beta, item=item, num_items=2, radius=1.0):
            return lambda: ops.condense(points, beta, item, num_items=num_items, radius=radius)

        return [
            Mistake("wide", call(torch.zeros(12, 129)), ValueError, r"\(N, D\) with D from 1 to 128, got \(12, 129"),
            Mistake("no_columns", call(points[:, :0]), ValueError, r"points must be \(N, D\) with D from 1 to 128"),
            Mistake("dtype", call(points.int()), TypeError, "points must have a floating point dtype"),
            Mistake("beta", call(beta=beta[1:]), ValueError, r"beta must be \(12,\) like points, got \(11,\)"),
            Mistake("whole", call(beta=item), ValueError, "beta must have a floating point dtype"),
            Mistake("item", call(item=item[1:]), ValueError, r"item must be \(12,\) like points, got \(11,\)"),
            Mistake("part", call(item=beta), ValueError, r"index must be \(M,\) int32 or int64"),
            Mistake("items", call(num_items=-1), ValueError, "num_segments must be >= 0, got -1"),
            Mistake("radius", call(radius=0.0), ValueError, "condense: radius must be > 0, got 0.0"),
            Mistake("no_radius", call(radius=float("nan")), ValueError, "condense: radius must be > 0, got nan"),
            Mistake("device", call(points.to("meta")), ValueError, "beta must be on meta"),
        ]


@given(
    st.integers(0, 200),
    st.integers(0, 2**31),
    st.integers(1, 5),
    st.integers(0, 4),
    st.sampled_from([0.25, 1.0, 3.0]),
    st.sampled_from([-1.0, 0.125, 0.5, 0.9]),
)
@settings(max_examples=60, deadline=None)
def test_hits_on_a_lattice(count, seed, columns, items, radius, min_beta):
    tensors = hits(count, columns=columns, items=items, seed=seed)
    options = dict(num_items=items, radius=radius, min_beta=min_beta)
    wanted = expected(*(tensor.numpy() for tensor in tensors.values()), **options)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        found = ops.condense(*(tensor.to(device) for tensor in tensors.values()), **options)
        assert found.tolist() == wanted.tolist(), device


def test_what_is_no_number(device):
    points, beta = torch.zeros(70, 2, device=device), torch.full((70,), 0.5, device=device)
    points[::2] = torch.nan
    beta[::7] = torch.nan  # comes first by beta, and is no centre
    found = ops.condense(points, beta, torch.zeros(70, dtype=torch.int32, device=device), num_items=1, radius=1.0)
    alone = [row if row % 7 else -1 for row in range(70)]
    assert found.tolist() == [alone[row] if row % 2 == 0 else 1 for row in range(70)]


def test_a_radius_that_squares_to_infinity_takes_all(device):
    points = torch.tensor([[0.0], [3e38], [-3e38]], device=device)
    item = torch.zeros(3, dtype=torch.int64, device=device)
    beta = torch.tensor([0.2, 0.3, 0.4], device=device)
    assert ops.condense(points, beta, item, num_items=1, radius=1e30).tolist() == [0, 1, 2]  # their squares overflow
    assert ops.condense(points.double(), beta, item, num_items=1, radius=1e39).tolist() == [2, 2, 2]


def test_half_precision_is_taken_as_float32(device):
    tensors = [tensor.to(device) for tensor in hits(200, spread=1.0).values()]
    wanted = ops.condense(*tensors, num_items=2, radius=1.0, min_beta=0.25)
    for dtype in (torch.float16, torch.bfloat16):
        found = ops.condense(
            tensors[0].to(dtype), tensors[1].to(dtype), tensors[2], num_items=2, radius=1.0, min_beta=0.25
        )
        assert found.dtype == torch.int32 and torch.equal(found, wanted)


@pytest.mark.gpu
def test_nothing_waits_for_the_gpu():
    tensors = [tensor.cuda() for tensor in hits(3000).values()]
    ops.condense(*tensors, num_items=2, radius=1.0)
    with warnings.catch_warnings(record=True) as waits:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            ops.condense(*tensors, num_items=2, radius=1.0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    # The mode itself warns once in a process that it is a prototype.
    assert not [wait for wait in waits if "called a synchronizing" in str(wait.message)]
