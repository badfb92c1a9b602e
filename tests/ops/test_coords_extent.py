# SPDX-License-Identifier: Apache-2.0
"""coords_extent, against torch on the CPU."""

import pytest
import torch

from pcperc import SparseTensor, ops

INT = torch.iinfo(torch.int32)


def random_rows(rows, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(INT.min, INT.max, (rows, columns), generator=generator).int()


def assert_found(coords, device):
    found = ops.coords_extent(coords.to(device))
    assert found.lowest == coords.amin(0).tolist() and found.highest == coords.amax(0).tolist()


@pytest.mark.parametrize("columns", [2, 3, 4, 5])
@pytest.mark.parametrize("rows", [1, 7, 8, 9, 31, 255, 256, 257, 1023, 1025, 70_001, 300_000])
def test_it_is_that_of_all_rows(rows, columns, device):
    assert_found(random_rows(rows, columns), device)


@pytest.mark.parametrize("row", [0, 1, 4095, 65_535, 65_536, 131_071, 199_998, 199_999])
def test_no_row_is_left_out(row, device):
    coords = torch.zeros(200_000, 4, dtype=torch.int32)
    for column in range(4):
        coords[row, column] = INT.min if column % 2 else INT.max
    assert_found(coords, device)


def test_rows_that_lie_anywhere(device):
    coords = random_rows(1000, 5).to(device)
    for part in (coords[3:], coords[:, 1:], coords[::2], coords.flatten()[1:4001].view(1000, 4)):
        assert_found(part.cpu(), device)
        found = ops.coords_extent(part)
        assert found.lowest == part.amin(0).tolist()


@pytest.mark.parametrize("name", ["base", "avx2", "avx512"])
def test_every_instruction_set(name):
    before = torch.ops.pcperc.cpu_capability()
    try:
        ops.set_cpu_capability(name)
    except ValueError:
        pytest.skip(f"this processor has no {name}")
    try:
        assert_found(random_rows(5001, 4), "cpu")
    finally:
        ops.set_cpu_capability(before)


def test_mistakes():
    with pytest.raises(TypeError, match="coords_extent: coords must be a tensor, got list"):
        ops.coords_extent([[0, 1]])
    with pytest.raises(ValueError, match=r"coords_extent: coords must be \(N, 1 \+ D\) int32"):
        ops.coords_extent(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="coords_extent: coords must have at least one row, got none"):
        ops.coords_extent(torch.zeros(0, 4).int())


def test_a_tensor_looks_once(device, monkeypatch):
    looks, look = [], ops.coords_extent
    monkeypatch.setattr(ops, "coords_extent", lambda coords: looks.append(1) or look(coords))
    coords = torch.tensor([[0, 1, 2, 3], [1, 4, 5, 6]], dtype=torch.int32, device=device)
    feats = torch.zeros(2, 1, device=device)
    assert SparseTensor(coords, feats).batch_size == 2
    SparseTensor(coords, feats, spatial_shape=7)
    SparseTensor(coords, feats, 2, spatial_shape=(5, 6, 7))
    SparseTensor(coords, feats, 2)
    assert len(looks) == 4
    SparseTensor(coords[:0], feats[:0])
    assert len(looks) == 4
