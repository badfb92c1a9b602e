# SPDX-License-Identifier: Apache-2.0
"""Functions of sparse tensors over padding: it stays padding, is left out, or is refused; it never becomes voxels."""

import pytest
import torch

import pcperc.nn as spnn
from pcperc import SparseTensor, collate, crop, prune, save, union
from pcperc.nn.capture import CapturedNetwork
from pcperc.sparse.padding import pad
from tests.ops.clouds import random_coords


def cloud(seed=0, device="cpu"):
    """Three clouds, some 40 voxels."""
    coords = random_coords(40, batch_size=3, low=0, high=6, seed=seed).to(device)
    feats = torch.randn(len(coords), 2, dtype=torch.float64, device=device)
    return SparseTensor(coords, feats, 3, spatial_shape=8)


def padded_cloud(device, seed=0):
    """A cloud without and with padding, whose features would show up."""
    x = cloud(seed, device)
    padded = pad(x, len(x) + 9)
    padded.feats[len(x) :] = 100
    return x, padded


def assert_same_voxels(found, wanted):
    assert torch.equal(found.coords, wanted.coords) and torch.equal(found.feats, wanted.feats)
    assert found.batch_size == wanted.batch_size and not found.topology.is_padded


def test_padding_is_in_no_cloud(device):
    x, padded = padded_cloud(device)
    for index in range(3):
        assert_same_voxels(padded[index], x[index])
        assert_same_voxels(padded.unbind()[index], x[index])
    assert_same_voxels(padded[1:], x[1:])
    assert_same_voxels(padded[:], x)


def test_prune_and_crop_keep_padding_as_padding(device):
    x, padded = padded_cloud(device)
    mask = torch.arange(len(padded), device=device) % 2 == 0
    for found, wanted in (
        (prune(padded, mask), prune(x, mask[: len(x)])),
        (crop(padded, upper=4), crop(x, upper=4)),
        (crop(padded, lower=2), crop(x, lower=2)),
    ):
        assert found.topology.is_padded
        assert_same_voxels(found[:], wanted)
        assert torch.equal(found.dense(), wanted.dense())
    assert (prune(padded, mask).coords[:, 0] == -1).any()


def test_union_leaves_padding_out(device):
    (x, padded), (y, other) = padded_cloud(device), padded_cloud(device, seed=1)
    assert_same_voxels(union([padded, other]), union([x, y]))
    assert_same_voxels(union([padded, y]), union([x, y]))
    twice = union([padded, padded])  # on one topology, which stays as it is
    assert twice.topology is padded.topology
    assert_same_voxels(twice[:], union([x, x]))


def test_collate_keeps_padding_as_padding(device):
    (x, padded), (y, other) = padded_cloud(device), padded_cloud(device, seed=1)
    found = collate([padded, y, other])
    assert found.topology.is_padded
    assert_same_voxels(found[:], collate([x, y, y]))
    assert not collate([x, y]).topology.is_padded


@pytest.mark.gpu
def test_moves_keep_padding_as_padding_on_a_gpu():
    x, padded = padded_cloud("cpu")
    for moved in (padded.cuda(), padded.pin_memory(), padded.cuda().cpu()):
        assert moved.topology.is_padded
        assert torch.equal(moved.dense().cpu(), x.dense())


def test_moves_keep_padding_as_padding():
    padded = padded_cloud("cpu")[1]
    assert padded.to("meta").topology.is_padded and padded.half().topology.is_padded
    assert not cloud().to("meta").topology.is_padded


def test_what_takes_rows_for_voxels_refuses_padding(tmp_path):
    x, padded = padded_cloud("cpu")
    network = CapturedNetwork(spnn.ReLU().eval(), capacity=100)
    for name, call in (
        ("save", lambda: save(padded, tmp_path / "x.safetensors")),
        ("SparseTensor.to_spconv", padded.to_spconv),
        ("SparseTensor.to_torchsparse", padded.to_torchsparse),
        ("capture", lambda: network(padded)),
    ):
        with pytest.raises(ValueError, match=f"^{name}: the sparse tensor must have no padding"):
            call()
    save(padded[:], tmp_path / "x.safetensors")


def test_too_few_capacities_are_named():
    x = cloud()
    net = torch.nn.Sequential(spnn.SparseConv3d(2, 2, 2, 2), spnn.SparseMaxPool3d(2)).double()
    assert len(net(pad(x, len(x) + 5, capacities=[40, 30]))) == 30
    for given in (0, 1):
        message = f"capacities must have one for each step down, got {given} for step {given + 1}"
        with pytest.raises(ValueError, match=message):
            net(pad(x, len(x) + 5, capacities=[40] * given))
