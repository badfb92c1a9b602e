# SPDX-License-Identifier: Apache-2.0
"""The same layer by another library: spconv itself, and a stand-in that convolves as torchsparse 2.1's source says."""

import itertools
import sys
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch

import pcperc.nn as spnn
from pcperc import SparseTensor
from tests.oracles_peers import convolve, tap_offsets

GEOMETRIES = {
    "k3s2p1": dict(kernel_size=3, stride=2, padding=1),
    "k2s2": dict(kernel_size=2, stride=2),
    "uneven": dict(kernel_size=(4, 2, 3), stride=(3, 1, 2), padding=(1, 0, 1)),
    "k1": dict(kernel_size=1),
    "k1s2": dict(kernel_size=1, stride=2),
    "gaps": dict(kernel_size=2, stride=3, padding=1),
}


@pytest.fixture(autouse=True)
def _no_grad():
    """spconv's CPU wheel has a forward pass alone."""
    with torch.no_grad():
        yield


def cloud(dims=3, *, bounded=True, dtype=torch.float32):
    shape = (7, 8, 9, 5)[:dims]
    coords = (torch.rand(2, *shape) < (0.2 if dims > 1 else 0.5)).nonzero().int()
    coords = coords[torch.randperm(len(coords))]
    if not bounded:
        coords -= torch.tensor([0, 3, 10, -20, 1][: dims + 1], dtype=torch.int32)
    feats = torch.randn(len(coords), 4, dtype=dtype)
    return SparseTensor(coords, feats, 2, spatial_shape=shape if bounded else None)


def assert_same_by(backend, layer, x):
    ours = layer(x)
    layer.backend = backend
    theirs = layer(x)
    layer.backend = None
    assert theirs.topology is ours.topology
    torch.testing.assert_close(theirs.feats, ours.feats)
    return ours


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("options", [{}, {"dilation": 2}, {"bias": False}], ids=str)
def test_spconv_submanifold_layers(spconv, options, bounded):
    for kernel_size in (3, (1, 3, 5), 1):
        assert_same_by("spconv", spnn.SubMConv3d(4, 5, kernel_size, **options), cloud(bounded=bounded))


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_spconv_layers_down_and_up(spconv, geometry, bounded):
    x = cloud(bounded=bounded)
    y = assert_same_by("spconv", spnn.SparseConv3d(4, 5, **geometry), x)
    assert_same_by("spconv", spnn.SparseConvTranspose3d(4, 5, **geometry), x)
    if geometry["kernel_size"] != 1:
        assert_same_by("spconv", spnn.SparseInverseConv3d(5, 6, geometry["kernel_size"]), y)


@pytest.mark.parametrize("dims", [1, 2, 4])
def test_spconv_in_other_dimensions(spconv, dims):
    x = cloud(dims)
    assert_same_by("spconv", getattr(spnn, f"SubMConv{dims}d")(4, 5, 3), x)
    y = assert_same_by("spconv", getattr(spnn, f"SparseConv{dims}d")(4, 5, 2, 2), x)
    assert_same_by("spconv", getattr(spnn, f"SparseInverseConv{dims}d")(5, 6, 2), y)


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize(
    "options", [dict(kernel_size=3), dict(kernel_size=(3, 2, 4), stride=(1, 2, 3)), dict(dilation=2)]
)
def test_spconv_generative_layers(spconv, options, bounded):
    layer = spnn.SparseGenerativeConvTranspose3d(4, 5, **{"kernel_size": 3, "stride": 2} | options)
    assert_same_by("spconv", layer, cloud(bounded=bounded))


def test_spconv_dilated_transposed_layer_where_nothing_bounds_it(spconv):
    assert_same_by("spconv", spnn.SparseConvTranspose3d(4, 5, 3, 2, 1, dilation=2), cloud(bounded=False))


def test_a_call_draws_no_random_numbers(spconv):
    layer, x = spnn.SubMConv3d(4, 5, 3, backend="spconv"), cloud()
    state = torch.get_rng_state()
    layer(x)
    assert torch.equal(torch.get_rng_state(), state)


@dataclass
class TorchsparseTensor:
    feats: torch.Tensor
    coords: torch.Tensor
    spatial_range: tuple
    before: "TorchsparseTensor | None" = None  # what torchsparse keeps in its cache


def torchsparse_conv3d(x, weight, kernel_size, stride, padding, transposed=False):
    """Odd kernels of stride 1 are centred on the input's voxels; others count from -padding."""
    weight = weight if weight.ndim == 3 else weight.unsqueeze(0)
    offsets = tap_offsets("torchsparse", kernel_size)
    centre = [-min(axis) for axis in zip(*offsets, strict=True)]
    offsets = [tuple(o + c - p for o, c, p in zip(t, centre, padding, strict=True)) for t in offsets]
    coords = (x.before.coords if transposed else x.coords).tolist()
    if transposed:  # from coarse to fine along the pairs of the layer before
        rows = {tuple(row): feats for row, feats in zip(x.coords.tolist(), x.feats, strict=True)}
        out = torch.zeros(len(coords), weight.shape[2], dtype=x.feats.dtype)
        for m, (batch, *fine) in enumerate(coords):
            for tap, offset in zip(weight, offsets, strict=True):
                coarse = [(f - o) / s for f, o, s in zip(fine, offset, stride, strict=True)]
                if (batch, *coarse) in rows:
                    out[m] += rows[(batch, *coarse)] @ tap
        return TorchsparseTensor(out, x.before.coords, x.before.spatial_range)
    if all(s == 1 for s in stride) and all(2 * p == k - 1 for p, k in zip(padding, kernel_size, strict=True)):
        out_coords = x.coords
    else:
        sizes = [
            (n + 2 * p - k) // s + 1
            for n, k, s, p in zip(x.spatial_range[1:], kernel_size, stride, padding, strict=True)
        ]
        reached = {
            (batch, *((f - o) // s for f, o, s in zip(fine, offset, stride, strict=True)))
            for (batch, *fine), offset in itertools.product(coords, offsets)
            if all((f - o) % s == 0 for f, o, s in zip(fine, offset, stride, strict=True))
        }
        inside = [row for row in reached if all(0 <= c < n for c, n in zip(row[1:], sizes, strict=True))]
        out_coords = torch.tensor(inside, dtype=torch.int32)
    assert all(s == stride[0] for s in stride)
    out = convolve(x.coords.numpy(), x.feats.numpy(), out_coords.numpy(), weight.numpy(), offsets, stride[0])
    return TorchsparseTensor(torch.from_numpy(out), out_coords, x.spatial_range, x)


@pytest.fixture
def torchsparse(monkeypatch):
    package, functional = ModuleType("torchsparse"), ModuleType("torchsparse.nn.functional")
    package.SparseTensor, functional.conv3d = TorchsparseTensor, torchsparse_conv3d
    for name, module in {"": package, ".nn": ModuleType("torchsparse.nn"), ".nn.functional": functional}.items():
        monkeypatch.setitem(sys.modules, f"torchsparse{name}", module)


@pytest.mark.parametrize("bounded", [True, False])
def test_torchsparse_layers(torchsparse, bounded):
    x = cloud(bounded=bounded, dtype=torch.float64)
    for kernel_size in (3, (1, 3, 5), 1):
        assert_same_by("torchsparse", spnn.SubMConv3d(4, 5, kernel_size).double(), x)
    for kernel_size, padding in ((2, 0), (3, 1)):
        y = assert_same_by("torchsparse", spnn.SparseConv3d(4, 5, kernel_size, 2, padding).double(), x)
        assert_same_by("torchsparse", spnn.SparseInverseConv3d(5, 6, kernel_size).double(), y)


def test_what_a_peer_cannot_do_is_named(spconv, torchsparse):
    x = cloud()
    for layer, message in (
        (spnn.SubMConv3d(4, 5, 2, backend="spconv"), "SubMConv3d: backend 'spconv' needs an odd kernel_size"),
        (spnn.SubMConv3d(4, 4, 3, groups=2, backend="spconv"), "backend 'spconv' needs groups=1, got 2"),
        (spnn.SubMConv3d(4, 4, 3, dilation=2, backend="torchsparse"), "backend 'torchsparse' has no such layer"),
        # The size that spconv gives a transposed layer leaves its dilation out.
        (spnn.SparseConvTranspose3d(4, 5, 2, dilation=2, backend="spconv"), "backend 'spconv' made other voxels"),
    ):
        with pytest.raises(ValueError, match=message):
            layer(x)
    for make in (spnn.SparseConvTranspose3d, spnn.SparseGenerativeConvTranspose3d):
        message = f"{make.__name__}: backend must be None or 'spconv', got 'torchsparse'"
        with pytest.raises(ValueError, match=message):
            make(4, 4, 2, 2, backend="torchsparse")
        layer = make(4, 4, 2, 2)
        layer.backend = "torchsparse"
        with pytest.raises(ValueError, match=message):
            layer(x)
    with pytest.raises(ValueError, match="needs at least one voxel, got none"):
        spnn.SubMConv3d(4, 5, 3, backend="spconv")(SparseTensor(x.coords[:0], x.feats[:0], 2))


def test_other_names_and_missing_libraries_are_named(monkeypatch):
    with pytest.raises(ValueError, match="SparseConv3d: backend must be None or 'spconv' or 'torchsparse', got 'ME'"):
        spnn.SparseConv3d(1, 1, 3, backend="ME")
    monkeypatch.setitem(sys.modules, "spconv.pytorch", None)
    with pytest.raises(ImportError, match="SubMConv3d: backend 'spconv' needs spconv, which is not installed"):
        spnn.SubMConv3d(4, 5, 3, backend="spconv")(cloud())
    assert "backend='spconv'" in repr(spnn.SubMConv3d(4, 5, 3, backend="spconv"))


def test_fused_blocks_are_ours():
    block = spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3, backend="spconv")).eval()
    with pytest.raises(ValueError, match="fuse: conv of model must have backend None, got 'spconv'"):
        spnn.fuse(block)
