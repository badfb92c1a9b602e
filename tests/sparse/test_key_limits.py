# SPDX-License-Identifier: Apache-2.0
"""Clouds at the corners of the range of coordinates, through layers; and coordinates one cell beyond it."""

import itertools

import pytest
import torch

import pcperc
import pcperc.nn as spnn
from tests.tolerances import tolerances

LAST_BATCH = {1: 1022, 2: 1022, 3: 1022, 4: 254}
CHANNELS = 3


def limits(dims: int) -> tuple[int, int]:
    bits = 14 if dims == 4 else 18
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def corner_clouds(dims: int) -> dict[tuple[int, ...], torch.Tensor]:
    """For each corner of the range its cell and the next one inward on each axis, in the first and the last batch item.

    A key that carried from one axis into the next would find cells of another corner.
    """
    low, high = limits(dims)
    clouds = {}
    for corner in itertools.product((low, high), repeat=dims):
        inward = [[c + (axis == i) * (1 if c == low else -1) for i, c in enumerate(corner)] for axis in range(dims)]
        rows = [[batch, *cell] for batch in (0, LAST_BATCH[dims]) for cell in ([*corner], *inward)]
        clouds[corner] = torch.tensor(rows, dtype=torch.int32)
    return clouds


def network(dims: int) -> torch.nn.Module:
    """Submanifold, strided and inverse layers: every way a neighbour is looked up."""
    layers = [getattr(spnn, f"{name}{dims}d") for name in ("SubMConv", "SparseConv", "SubMConv", "SparseInverseConv")]
    subm, strided, coarse, inverse = layers
    return torch.nn.Sequential(
        subm(CHANNELS, 4, 3), strided(4, 5, 3, stride=2, padding=1), coarse(5, 5, 3), inverse(5, 2, 3)
    )


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
def test_corners_of_the_range_are_like_any_place(dims, device):
    """All corners at once give what each of them gives alone when it is moved to the origin."""
    clouds, net = corner_clouds(dims), network(dims).double().to(device)
    coords = torch.cat(list(clouds.values()))
    feats = torch.randn(len(coords), CHANNELS, dtype=torch.float64)
    together = net(pcperc.SparseTensor(coords.to(device), feats.to(device)))
    assert torch.equal(together.coords.cpu(), coords)
    start = 0
    for corner, cloud in clouds.items():
        moved = cloud.clone()
        moved[:, 1:] -= torch.tensor([c // 2 * 2 for c in corner], dtype=torch.int32)  # the stride keeps its phase
        part = slice(start, start := start + len(cloud))
        alone = net(pcperc.SparseTensor(moved.to(device), feats[part].to(device))).feats
        torch.testing.assert_close(together.feats[part], alone, **tolerances(torch.float64, 3**dims * 5))


@pytest.mark.parametrize("dims", [1, 2, 3, 4])
def test_one_cell_beyond_is_an_error(dims, device):
    low, high = limits(dims)
    layer = getattr(spnn, f"SubMConv{dims}d")(1, 1, 3).to(device)
    for axis, value in itertools.product(range(dims), (low - 1, high + 1)):
        coords = torch.zeros(3, 1 + dims, dtype=torch.int32)
        coords[0, 1], coords[1, 1] = low, high
        coords[2, 1 + axis] = value
        x = pcperc.SparseTensor(coords.to(device), torch.ones(3, 1, device=device))
        with pytest.raises(ValueError, match=rf"coords row 2 = .*{value}.* \[{low}, {high}\]"):
            layer(x)
    coords = torch.zeros(1, 1 + dims, dtype=torch.int32)
    coords[0, 0] = LAST_BATCH[dims] + 1
    with pytest.raises(ValueError, match=rf"batch_size must be .*{LAST_BATCH[dims] + 1}"):
        pcperc.SparseTensor(coords.to(device), torch.ones(1, 1, device=device))
