# SPDX-License-Identifier: Apache-2.0
"""Hash sets on a GPU, cleared and filled by one launch up to 2^17 rows and by two above, hold what a CPU finds."""

import pytest
import torch

from pcperc import ops
from tests.ops.clouds import random_coords

pytestmark = pytest.mark.gpu
ROWS = [1, 2, 1023, 1025, 70_000, (1 << 17) - 1, 1 << 17, (1 << 17) + 1, 500_000]


@pytest.fixture(scope="module")
def cloud():
    coords = random_coords(700_000, low=-200, high=200)
    assert len(coords) >= ROWS[-1]
    return coords


@pytest.mark.parametrize("rows", ROWS)
def test_kernel_maps(rows, cloud):
    coords = cloud[:rows]
    for options in (dict(kernel_size=3, padding=1), dict(kernel_size=(1, 1, 5), padding=(0, 0, 2))):
        wanted = ops.build_kernel_map(coords, coords, **options)
        for check in (True, False):
            found = ops.build_kernel_map(coords.cuda(), coords.cuda(), **options, check=check)
            assert torch.equal(found.cpu(), wanted)
    reverse = ops.reverse_kernel_map(wanted, num_inputs=rows)
    for check in (True, False):
        assert torch.equal(ops.reverse_kernel_map(wanted.cuda(), num_inputs=rows, check=check).cpu(), reverse)


@pytest.mark.parametrize("rows", ROWS)
def test_repeated_rows_and_rows_out_of_range_are_found(rows, cloud):
    coords = torch.cat([cloud[:rows], cloud[:1]])
    with pytest.raises(ValueError, match=f"in_coords row {rows} .* repeats an earlier row"):
        ops.build_kernel_map(coords.cuda(), coords.cuda(), kernel_size=3, padding=1)
    coords[-1, 1] = 1 << 20
    with pytest.raises(ValueError, match=f"in_coords row {rows} .* is out of range"):
        ops.build_kernel_map(coords.cuda(), coords.cuda(), kernel_size=3, padding=1)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("capacity", [None, 3_000_000])
def test_new_voxels(rows, capacity, cloud):
    coords = torch.cat([cloud[:rows], cloud[: rows // 3]])
    strided = dict(kernel_size=3, stride=2, padding=1, capacity=capacity)
    for find in (
        lambda coords: ops.unique_coords(coords, capacity=capacity),
        lambda coords: ops.downsample_coords(coords, **strided),
    ):
        found, wanted = find(coords.cuda()), find(coords)
        for one, other in zip(found, wanted, strict=True) if isinstance(found, tuple) else [(found, wanted)]:
            assert torch.equal(one.cpu(), other)
    if rows < 100_000 and capacity is None:
        found = ops.upsample_coords(coords.cuda(), kernel_size=2, stride=2)
        assert torch.equal(found.cpu(), ops.upsample_coords(coords, kernel_size=2, stride=2))


def test_no_rows():
    nothing = torch.zeros(0, 4, dtype=torch.int32, device="cuda")
    assert ops.unique_coords(nothing).coords.shape == (0, 4)
    assert (ops.unique_coords(nothing, capacity=5).coords[:, 0] == -1).all()
    assert ops.downsample_coords(nothing, kernel_size=2, stride=2).shape == (0, 4)
    rows = torch.zeros(3, 4, dtype=torch.int32, device="cuda")
    assert (ops.build_kernel_map(nothing, rows, kernel_size=3, padding=1) == -1).all()
    assert ops.build_kernel_map(nothing, nothing, kernel_size=3, padding=1).shape == (27, 0)
