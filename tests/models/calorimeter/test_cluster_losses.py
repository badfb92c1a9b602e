# SPDX-License-Identifier: Apache-2.0
"""Losses of clusters against loops in float64, their gradients, and events of which there is little or nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcperc.models.losses import discriminative_loss, object_condensation_loss, offset_loss
from tests import oracles_calorimeter as oracle

LAYOUTS = {
    "objects and noise": [0, 1, -1, 0, 1, 2, -1, 0],
    "no noise": [0, 0, 1, 1],
    "one hit each": [0, 1, 2],
    "one object": [0, 0, -1],
    "all noise": [-1, -1, -1],
    "one hit": [0],
    "one noise hit": [-1],
    "no hits": [],
}


def event(objects, dims=3, seed=0, scale=1.5):
    rng = np.random.default_rng(seed)
    count = len(objects)
    return rng.uniform(0.01, 0.99, count), scale * rng.normal(size=(count, dims)), rng.normal(size=(count, dims))


def tensors(*arrays, device="cpu"):
    return [torch.as_tensor(array, device=device) for array in arrays]


@pytest.mark.parametrize("objects", LAYOUTS.values(), ids=LAYOUTS)
def test_losses_equal_the_loops(objects, device):
    # Scaled so that some distances are beyond 4, some below 1.
    beta, x, xyz = event(objects, scale=2.0)
    b, e, p, o = tensors(beta, x, xyz, np.array(objects, np.int64), device=device)
    found = object_condensation_loss(b, e, o, q_min=0.7, noise_weight=0.3)
    expected = oracle.condensation(beta, x, objects, 0.7, 0.3)
    assert [float(v) for v in found] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    found = discriminative_loss(e, o, pull_margin=0.4, push_margin=1.2)
    assert [float(v) for v in found] == pytest.approx(oracle.discriminative(x, objects, 0.4, 1.2), rel=1e-9, abs=1e-12)
    assert float(offset_loss(e, p, o)) == pytest.approx(oracle.offset(x, xyz, objects), rel=1e-9, abs=1e-12)


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=12), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_losses_of_any_event(drawn, seed):
    known = sorted({k for k in drawn if k >= 0})
    objects = [known.index(k) if k >= 0 else -1 for k in drawn]
    beta, x, xyz = event(objects, seed=seed)
    b, e, p, o = tensors(beta, x, xyz, np.array(objects, np.int64))
    found = [*object_condensation_loss(b, e, o), *discriminative_loss(e, o), offset_loss(e, p, o)]
    expected = [*oracle.condensation(beta, x, objects, 1.0, 0.1), *oracle.discriminative(x, objects, 0.5, 1.5)]
    expected.append(oracle.offset(x, xyz, objects))
    assert [float(v) for v in found] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("objects", [layout for layout in LAYOUTS.values() if layout])
def test_gradients(objects):
    beta, x, xyz = event(objects, seed=3)
    b, e, p, o = tensors(beta, x, xyz, np.array(objects, np.int64))
    b, e = b.requires_grad_(), e.requires_grad_()
    assert torch.autograd.gradcheck(lambda b, e: sum(object_condensation_loss(b, e, o)), (b, e))
    assert torch.autograd.gradcheck(lambda e: sum(discriminative_loss(e, o)), (e,))
    assert torch.autograd.gradcheck(lambda e: offset_loss(e, p, o), (e,))


def test_the_ends_of_beta_and_coincident_hits_have_finite_gradients():
    beta = torch.tensor([0.0, 1.0, 1.0, 0.0], requires_grad=True)
    x = torch.zeros(4, 2, requires_grad=True)
    sum(object_condensation_loss(beta, x, torch.tensor([0, 0, 1, -1]))).backward()
    assert beta.grad.isfinite().all() and x.grad.isfinite().all()
    embedding = torch.zeros(3, 4, requires_grad=True)
    sum(discriminative_loss(embedding, torch.tensor([0, 1, 1]))).backward()
    assert embedding.grad.isfinite().all()


def test_half_precision_is_summed_in_float32():
    objects = LAYOUTS["objects and noise"]
    beta, x, _ = event(objects)
    b, e, o = torch.tensor(beta).bfloat16(), torch.tensor(x).bfloat16(), torch.tensor(objects)
    found, wide = (object_condensation_loss(*values, o) for values in ((b, e), (b.double(), e.double())))
    assert all(v.dtype == torch.float32 for v in found)
    assert [float(v) for v in found] == pytest.approx([float(v) for v in wide], rel=1e-5)


def test_messages():
    ones, objects = torch.ones(3), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(
        ValueError, match=r"object_condensation_loss: hits must be as many .* got \[\(3,\), \(2, 4\), \(3,\)\]"
    ):
        object_condensation_loss(ones, torch.ones(2, 4), objects)
    with pytest.raises(ValueError, match="discriminative_loss: hits must be as many"):
        discriminative_loss(torch.ones(2, 4), objects)
    with pytest.raises(ValueError, match=r"offset_loss: xyz must be \(3, 3\), got \(3, 2\)"):
        offset_loss(torch.ones(3, 3), torch.ones(3, 2), objects)
