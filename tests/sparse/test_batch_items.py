# SPDX-License-Identifier: Apache-2.0
"""Clouds of a batch: by number, by slice, one by one, and back into a batch."""

import pytest
import torch

from pcperc import SparseTensor, collate
from tests.op_contract import assert_twice_differentiable
from tests.ops.clouds import coords_of


def batch(device="cpu"):
    """Four clouds of 2, 0, 1 and 2 voxels, rows of a cloud not side by side."""
    coords = coords_of((3, 5, 5, 5), (0, 1, 2, 3), (2, -7, 0, 0), (0, 0, 0, 1), (3, 1, 1, 1)).to(device)
    feats = torch.arange(10.0, dtype=torch.float64, device=device).view(5, 2)
    return SparseTensor(coords, feats, 4, tensor_stride=2)


ITEMS = [
    ([[0, 1, 2, 3], [0, 0, 0, 1]], [[2, 3], [6, 7]]),
    ([], []),
    ([[0, -7, 0, 0]], [[4, 5]]),
    ([[0, 5, 5, 5], [0, 1, 1, 1]], [[0, 1], [8, 9]]),
]


def test_items_hold_their_rows_in_order(device):
    x = batch(device)
    for index, (coords, feats) in enumerate(ITEMS):
        for item in (x[index], x[index - 4], x.unbind()[index], list(x)[index]):
            assert item.coords.tolist() == coords and item.feats.tolist() == feats
            assert item.batch_size == 1 and item.tensor_stride == (2, 2, 2) and item.spatial_shape is None
            assert item.kernel_maps is not x.kernel_maps
    assert len(x.unbind()) == 4


def test_slices_are_batches(device):
    x = batch(device)
    assert x[:].coords.tolist() == x.coords.tolist() and x[:].batch_size == 4
    part = x[2:]
    assert part.batch_size == 2
    assert part.coords.tolist() == [[1, 5, 5, 5], [0, -7, 0, 0], [1, 1, 1, 1]]
    assert part.feats.tolist() == [[0, 1], [4, 5], [8, 9]]
    turned = x[::-2]
    assert turned.coords.tolist() == [[0, 5, 5, 5], [0, 1, 1, 1]] and turned.batch_size == 2
    assert len(x[1:2]) == 0 and x[1:2].batch_size == 1
    assert x[4:].batch_size == 0 and len(x[4:]) == 0


def test_collate_undoes_unbind(device):
    x = batch(device)
    y = collate(x.unbind())
    order = x.coords[:, 0].argsort(stable=True)
    assert y.batch_size == 4 and y.tensor_stride == (2, 2, 2)
    assert torch.equal(y.coords, x.coords[order]) and torch.equal(y.feats, x.feats[order])


def test_collate_takes_batches():
    y = collate([batch(), batch()[1:3]])
    assert y.batch_size == 6
    assert y.coords[:, 0].tolist() == [3, 0, 2, 0, 3, 5]


def test_items_are_differentiable():
    x = batch()
    feats = torch.rand_like(x.feats).requires_grad_()

    def parts(f):
        y = x.replace(feats=f)
        return y[3].feats, y[1:].feats, collate(list(y)).feats

    assert torch.autograd.gradcheck(parts, feats)
    assert_twice_differentiable(parts, feats)


def test_no_clouds_at_all():
    x = SparseTensor(coords_of(), torch.zeros(0, 2))
    assert x.unbind() == [] and x[:].batch_size == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x[4], IndexError, "batch of 4, got 4"),
        (lambda x: x[-5], IndexError, "batch of 4, got -5"),
        (lambda x: x[0, 1], TypeError, "a whole number or a slice, got tuple"),
        (lambda x: x[True], TypeError, "a whole number or a slice, got bool"),
        (lambda x: collate([]), ValueError, "collate: at least one SparseTensor"),
        (lambda x: collate([x, x.feats]), TypeError, "collate: argument must be a SparseTensor, got Tensor"),
        (lambda x: collate([x, x.float()]), ValueError, r"collate: .*dtype of the first.*float32 on cpu for number 1"),
        (lambda x: collate([x, x.replace(feats=x.feats[:, :1])]), ValueError, r"collate: .*got \(5, 1\)"),
        (lambda x: collate([x, SparseTensor(x.coords, x.feats)]), ValueError, r"tensor_stride \(2, 2, 2\) and \(1, "),
        (
            lambda x: collate([x] * 256),
            ValueError,
            r"collate: batch_size must be in \[1, 1023\] for 3 spatial axes, got 1024",
        ),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(batch())
