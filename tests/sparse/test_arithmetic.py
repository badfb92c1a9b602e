# SPDX-License-Identifier: Apache-2.0
"""Operators between sparse tensors, numbers and channels, against the same operator on plain features."""

import operator

import numpy as np
import pytest
import torch

from pcperc import SparseTensor
from tests.op_contract import assert_twice_differentiable
from tests.ops.clouds import coords_of, random_coords

OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def cloud(channels=3, count=20, dtype=torch.float64, seed=0, device="cpu", **lattice):
    coords = random_coords(count, seed=seed).to(device)
    return SparseTensor(coords, torch.rand(len(coords), channels, dtype=dtype, device=device) + 0.5, 2, **lattice)


@pytest.mark.parametrize("symbol", OPERATORS)
def test_operators_act_on_the_features(symbol, device):
    apply = OPERATORS[symbol]
    x = cloud(device=device)
    per_channel = torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64, device=device)
    others = (2, 0.5, np.float32(3), torch.tensor(2.0), per_channel)
    for other in others:
        plain = float(other) if isinstance(other, np.float32) else other
        torch.testing.assert_close(apply(x, other).feats, apply(x.feats, plain))
        torch.testing.assert_close(apply(other, x).feats, apply(plain, x.feats))
    y = x.replace(feats=x.feats * x.feats)
    z = apply(x, y)
    assert z.topology is x.topology and z.kernel_maps is x.kernel_maps
    assert torch.equal(z.feats, apply(x.feats, y.feats))


def test_minus_and_results_by_hand():
    x = SparseTensor(coords_of((0, 0, 0, 0), (0, 1, 0, 0)), torch.tensor([[1.0, 2.0], [4.0, 8.0]]))
    assert (-x).feats.tolist() == [[-1, -2], [-4, -8]]
    assert (1 - x).feats.tolist() == [[0, -1], [-3, -7]]
    assert (8 / x).feats.tolist() == [[8, 4], [2, 1]]
    assert (torch.tensor([8.0, 16.0]) / x).feats.tolist() == [[8, 8], [2, 2]]
    y = x
    y += 1
    assert y.feats.tolist() == [[2, 3], [5, 9]] and x.feats.tolist() == [[1, 2], [4, 8]]


def test_tensors_made_apart_from_equal_coords_add_up():
    x, y = cloud(), cloud()
    assert x.topology is not y.topology
    assert torch.equal((x + y).feats, x.feats + y.feats) and (x + y).topology is x.topology


def test_one_channel_acts_on_all_channels():
    x, gate = cloud(channels=3), cloud(channels=1)
    assert torch.equal((x * gate).feats, x.feats * gate.feats)
    assert torch.equal((gate * x).feats, x.feats * gate.feats)


def test_dtypes_are_promoted_as_in_torch():
    half = cloud(dtype=torch.float16)
    assert (half * 2).dtype == (half * torch.tensor(2.0)).dtype == torch.float16
    assert (half + cloud(dtype=torch.float32)).dtype == torch.float32


def test_arithmetic_is_differentiable():
    x = cloud(channels=2, count=5)
    scale = torch.rand(2, dtype=torch.float64, requires_grad=True)
    inputs = [torch.rand_like(x.feats).requires_grad_() for _ in range(2)] + [scale]

    def expression(a, b, s):
        a, b = x.replace(feats=a), x.replace(feats=b)
        return ((a * s - b / 2) * b + 3).feats

    assert torch.autograd.gradcheck(expression, inputs)
    assert_twice_differentiable(expression, inputs)


def test_empty_tensors_add_up():
    x = SparseTensor(coords_of(), torch.zeros(0, 3), 2)
    assert (x + x * 2 - 1).feats.shape == (0, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x + cloud(count=5), ValueError, r"SparseTensor \+: both must have the same voxels.*\d+ and \d+ vox"),
        (lambda x: x + cloud(spatial_shape=None, tensor_stride=2), ValueError, r"tensor_stride \(1, 1, 1\) and \(2, "),
        (lambda x: x - x[:1], ValueError, r"batch_size 2 and 1; pcperc.union adds"),
        (
            lambda x: x * SparseTensor(x.coords.flip(0), x.feats, 2),
            ValueError,
            r"SparseTensor \*: .*got another order \(first at row 0: \[.*\] and \[.*\]\); pcperc.union",
        ),
        (
            lambda x: x / SparseTensor(x.coords + torch.tensor([0, 0, 0, 1], dtype=torch.int32), x.feats, 2),
            ValueError,
            r"SparseTensor /: .*got other voxels \(first at row 0",
        ),
        (lambda x: x + cloud(channels=2), ValueError, r"\+: operands must have as many channels.*got 3 and 2"),
        (lambda x: x + x.feats, ValueError, r"\+: a tensor must be one number or \(3,\).*replace\(feats=...\)"),
        (lambda x: torch.ones(2) * x, ValueError, r"\*: a tensor must be one number or \(3,\).*got \(2,\)"),
        (lambda x: x + "1", TypeError, "unsupported operand"),
        (lambda x: [1.0] - x, TypeError, "unsupported operand"),
        (lambda x: x + x.feats.numpy(), TypeError, "does not support ufuncs"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(cloud())
