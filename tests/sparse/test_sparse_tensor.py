# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from pcperc import SparseTensor
from tests.ops.clouds import coords_of, random_coords


def test_dense_puts_every_row_in_its_cell(device):
    coords = random_coords(60, low=0, high=4).to(device)
    x = SparseTensor(coords, torch.randn(len(coords), 3, device=device), 3, spatial_shape=(5, 6, 7))
    grid = x.dense()
    assert grid.shape == (3, 3, 5, 6, 7)
    expected = torch.zeros(3, 3, 5, 6, 7, device=device)
    for (b, i, j, k), row in zip(coords.tolist(), x.feats, strict=True):
        expected[b, :, i, j, k] = row
    assert torch.equal(grid, expected)


def test_dense_is_differentiable():
    coords = random_coords(10, low=0, high=2)
    feats = torch.randn(len(coords), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: SparseTensor(coords, f, 2, spatial_shape=(3, 3, 3)).dense(), feats)


def test_replace_keeps_voxels_and_kernel_maps():
    x = SparseTensor(coords_of((0, 1, 2, 3)), torch.ones(1, 2))
    y = x.replace(feats=torch.zeros(1, 5))
    assert y.topology is x.topology and y.kernel_maps is x.kernel_maps
    assert y.feats.shape == (1, 5) and x.feats.shape == (1, 2)


def test_batch_size_is_read_from_the_coords_where_it_is_not_given():
    assert SparseTensor(coords_of((0, 0, 0, 0), (3, 0, 0, 0)), torch.ones(2, 1)).batch_size == 4
    assert SparseTensor(coords_of(), torch.ones(0, 1)).batch_size == 0


def test_repr_says_how_many_voxels_and_what_lattice():
    text = repr(SparseTensor(coords_of((0, 1, 2, 3)), torch.ones(1, 2), spatial_shape=(4, 4, 4)))
    assert "M=1" in text and "C=2" in text and "4x4x4" in text and "tensor_stride=(1, 1, 1)" in text


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SparseTensor(coords_of((0, 0, 0, 0)), torch.ones(2, 1)), ValueError, r"feats must be \(1, C\)"),
        (lambda: SparseTensor(torch.zeros(1, 4), torch.ones(1, 1)), ValueError, r"coords must be \(N, 4\) int32"),
        (lambda: SparseTensor(coords_of((2, 0, 0, 0)), torch.ones(1, 1), 2), ValueError, r"row 0 = \[2, 0, 0, 0\]"),
        (
            lambda: SparseTensor(coords_of((0, 0, 0, 0), (0, 4, 0, 0)), torch.ones(2, 1), spatial_shape=(4, 4, 4)),
            ValueError,
            r"row 1 = \[0, 4, 0, 0\] is outside",
        ),
        (lambda: SparseTensor(coords_of((0, 0, 0, 0)), torch.ones(1, 1), 2000), ValueError, "got 2000"),
        (lambda: SparseTensor(coords_of((0, 0, 0, 0)), torch.ones(1, 1), 2.0), TypeError, "batch_size must be a whole"),
        (lambda: SparseTensor(coords_of((1999, 0, 0, 0)), torch.ones(1, 1)), ValueError, "got 2000"),
        (lambda: SparseTensor(coords_of((-1, 0, 0, 0)), torch.ones(1, 1)), ValueError, r"row 0 = \[-1, 0, 0, 0\]"),
        (lambda: SparseTensor(coords_of((0, 0, 0, 0)), torch.ones(1, 1).numpy()), TypeError, "got ndarray"),
        (lambda: SparseTensor(coords_of((0, 0, 0, 0)), torch.ones(1, 1)).dense(), ValueError, "needs a spatial_shape"),
    ],
)  # fmt: skip
def test_mistakes_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
