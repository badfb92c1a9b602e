# SPDX-License-Identifier: Apache-2.0
"""pad_rows, against slices that are copied one by one."""

import pytest
import torch

from pcperc import ops
from tests.ops.clouds import random_coords

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def buffers(room, columns, channels, dtype, device):
    return torch.full((room, columns), 7, dtype=torch.int32, device=device), torch.full(
        (room, channels), 5, dtype=dtype, device=device
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [0, 1, 3, 4, 8])
@pytest.mark.parametrize("room", [100, 101, 5000])
def test_rows_are_copied_and_the_rest_is_padding(room, channels, dtype, device):
    coords = random_coords(100, seed=room)[:90].to(device)
    feats = torch.randn(len(coords), channels, device=device).to(dtype)
    to_coords, to_feats = buffers(room, 4, channels, dtype, device)
    ops.pad_rows(coords, feats, to_coords=to_coords, to_feats=to_feats)
    assert torch.equal(to_coords[: len(coords)], coords) and torch.equal(to_feats[: len(coords)], feats)
    assert (to_coords[len(coords) :] == -1).all() and (to_feats[len(coords) :] == 5).all()


@pytest.mark.parametrize("dims", [1, 2, 4])
def test_other_columns_and_rows_that_lie_anywhere(dims, device):
    coords, feats = random_coords(60, dims=dims).to(device), torch.randn(61, 6, device=device).half()
    coords = coords[: len(coords) // 2 * 2]
    for values in (feats[1:][:, 1:4], feats.flatten()[1:][: 60 * 6].view(60, 6)):  # strided, and on odd addresses
        values = values[: len(coords)]
        to_coords, to_feats = buffers(70, 1 + dims, values.shape[1], torch.float16, device)
        ops.pad_rows(coords, values, to_coords=to_coords, to_feats=to_feats)
        assert torch.equal(to_coords[: len(coords)], coords) and torch.equal(to_feats[: len(coords)], values)


def test_no_rows_and_no_room_left(device):
    coords, feats = random_coords(20).to(device), torch.randn(len(random_coords(20)), 3, device=device)
    to_coords, to_feats = buffers(len(coords), 4, 3, torch.float32, device)
    ops.pad_rows(coords, feats, to_coords=to_coords, to_feats=to_feats)
    assert torch.equal(to_coords, coords) and torch.equal(to_feats, feats)
    ops.pad_rows(coords[:0], feats[:0], to_coords=to_coords, to_feats=to_feats)
    assert (to_coords == -1).all() and torch.equal(to_feats, feats)
    ops.pad_rows(coords[:0], feats[:0], to_coords=to_coords[:0], to_feats=to_feats[:0])


def test_the_operator_follows_its_schema(device):
    coords, feats = random_coords(20).to(device), torch.randn(len(random_coords(20)), 3, device=device)
    torch.library.opcheck(torch.ops.pcperc.pad_rows.default, (coords, feats, *buffers(30, 4, 3, torch.float32, device)))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (dict(feats=torch.zeros(3, 2)), "feats must have 2 rows like coords"),
        (dict(to_coords=torch.zeros(1, 4).int()), r"to_coords must be contiguous \(2 or more, 4\), got \(1, 4\)"),
        (dict(to_coords=torch.zeros(5, 3).int()), r"to_coords must be contiguous \(2 or more, 4\), got \(5, 3\)"),
        (dict(to_coords=torch.zeros(5, 8).int()[:, ::2]), "to_coords must be contiguous"),
        (dict(to_feats=torch.zeros(4, 2)), r"to_feats must be contiguous \(5, 2\) in the dtype of feats"),
        (dict(to_feats=torch.zeros(5, 2).half()), "to_feats must be contiguous .* got .* float16"),
        (dict(coords=torch.zeros(2, 4)), r"coords must be \(N, 1 \+ D\) int32"),
    ],
)
def test_mistakes(change, match):
    arguments = dict(coords=torch.zeros(2, 4).int(), feats=torch.zeros(2, 2), to_coords=torch.zeros(5, 4).int())
    arguments |= dict(to_feats=torch.zeros(5, 2)) | change
    with pytest.raises(ValueError, match=f"pad_rows: {match}"):
        ops.pad_rows(arguments.pop("coords"), arguments.pop("feats"), **arguments)
