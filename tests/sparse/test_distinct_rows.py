# SPDX-License-Identifier: Apache-2.0
"""Repeated rows are found by whatever needs distinct ones, once for a topology; our own results are not looked at."""

from dataclasses import replace

import pytest
import torch

import pcperc.nn as spnn
from pcperc import PointTensor, SparseTensor, collate, crop, ops, prune
from tests.ops.clouds import coords_of, random_coords

SHAPE = (8, 8, 8)


def repeated(device="cpu"):
    coords = coords_of((0, 1, 1, 1), (0, 2, 1, 1), (1, 1, 1, 1), (0, 2, 1, 1)).to(device)
    return SparseTensor(coords, torch.ones(4, 2, device=device), 2, spatial_shape=SHAPE)


def distinct(device="cpu"):
    coords = random_coords(40, low=0, high=7).to(device)
    return SparseTensor(coords, torch.randn(len(coords), 2, device=device), 2, spatial_shape=SHAPE)


NEED_DISTINCT = {
    "dense": ("SparseTensor.dense", lambda x: x.dense()),
    "prune": ("prune", lambda x: prune(x, x.feats[:, 0] > 0)),
    "crop": ("prune", lambda x: crop(x, 0, 5)),
    "one_tap": ("build_kernel_map", spnn.SubMConv3d(2, 2, 1)),
    "one_tap_strided": ("build_kernel_map", spnn.SparseConv3d(2, 2, 1, 2)),
    "several_taps": ("build_kernel_map", spnn.SubMConv3d(2, 2, 3)),
    "pooling": ("build_kernel_map", spnn.SparseMaxPool3d(2)),
    "target": (
        "build_kernel_map",
        lambda x: spnn.SparseConv3d(2, 2, 3, 1, 1, device=x.device)(distinct(x.device), x),
    ),
    "item": ("SparseTensor.dense", lambda x: x[0].dense()),
    "cast_and_batch": ("SparseTensor.dense", lambda x: collate([x.half(), x.half()])[1:3].dense()),
}


@pytest.mark.parametrize(("op", "call"), NEED_DISTINCT.values(), ids=NEED_DISTINCT)
def test_a_repeated_row_is_named(op, call, device):
    call = call.to(device) if isinstance(call, torch.nn.Module) else call
    with torch.no_grad(), pytest.raises(ValueError, match=rf"^{op}: .*row \d = .* repeats an earlier row"):
        call(repeated(device))


def test_the_message_says_how_repeated_rows_are_merged(device):
    x = repeated(device)
    hint = r"; pcperc.nn.point_to_voxel\(pcperc.PointTensor\(coords.float\(\), feats\)\) takes the mean of equal rows$"
    for call in (spnn.SubMConv3d(2, 2, 3).to(device), SparseTensor.dense):
        with pytest.raises(ValueError, match=hint):
            call(x)
    feats = torch.arange(8.0, device=device).reshape(4, 2)
    merged = spnn.point_to_voxel(PointTensor(x.coords.float(), feats))
    assert merged.coords.tolist() == [[0, 1, 1, 1], [0, 2, 1, 1], [1, 1, 1, 1]]
    assert merged.feats.tolist() == [[0, 1], [4, 5], [4, 5]]  # (2, 3) and (6, 7)


@pytest.fixture
def looks(monkeypatch):
    """The number of coords looked at so far, in a list of one."""
    count, build = [0], ops.build_kernel_map

    def counting(*arguments, check=True, **options):
        count[0] += check
        return build(*arguments, check=check, **options)

    monkeypatch.setattr(ops, "build_kernel_map", counting)
    return count


def test_voxels_are_looked_at_once(looks):
    x = distinct()
    spnn.SubMConv3d(2, 2, 1)(x)
    assert looks == [1] and x.topology.is_distinct
    y = spnn.SparseConv3d(2, 2, 3, 2, 1)(spnn.SubMConv3d(2, 2, 3)(x.clone()))
    spnn.SparseInverseConv3d(2, 2, 3)(y).feats.sum().backward()
    for derived in (y, prune(x, x.feats[:, 0] > 0), x[1], collate([x, x]), x.double()):
        spnn.SubMConv3d(2, 2, 1).to(derived.dtype)(derived).dense()
    assert looks == [1]


def test_a_map_of_several_taps_has_looked(looks):
    x = distinct()
    spnn.SubMConv3d(2, 2, 3)(x)
    x.dense(), prune(x, x.feats[:, 0] > 0)
    assert looks == [1]


def test_voxels_put_in_the_place_of_an_operators_are_looked_at():
    made = spnn.SparseConv3d(2, 2, 2, 2)(distinct())
    assert made.topology.is_distinct
    coords = made.coords.clone()
    coords[3] = coords[0]
    topology = replace(made.topology, coords=coords)
    x = SparseTensor.on_topology(topology, made.feats.detach(), made.kernel_maps)
    assert not topology.is_distinct and topology.tensor_stride == (2, 2, 2)
    with pytest.raises(ValueError, match=r"row 3 = .* repeats an earlier row"):
        spnn.SubMConv3d(2, 2, 3)(x)


@pytest.mark.parametrize("layer", [spnn.SubMConv3d(2, 2, 1), spnn.SubMConv3d(2, 2, 3)], ids=["one_tap", "several"])
def test_a_compiled_program_finds_them_too(layer):
    def program(coords, feats):
        return layer(SparseTensor(coords, feats, 2, spatial_shape=SHAPE)).dense()

    torch._dynamo.reset()
    compiled = torch.compile(program, backend="eager", fullgraph=True, dynamic=True)
    x = distinct()
    with torch.no_grad():
        torch.testing.assert_close(compiled(x.coords, x.feats), program(x.coords, x.feats))
        with pytest.raises(ValueError, match="repeats an earlier row"):
            compiled(x.coords[torch.arange(len(x)) % 30], x.feats)
