# SPDX-License-Identifier: Apache-2.0
"""Networks of points over padding equal those without, on a CPU too, and nothing in their pass waits."""

import contextlib
from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import pcperc.nn as spnn
from pcperc import PointTensor, ops
from pcperc.nn.padded_pass import PaddedPass
from pcperc.sparse.padding import new_rows, pad, with_own_cache
from tests.nn.point_networks import NETWORKS, WITHOUT_VOXELS, Gives, check_close, cloud, network


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_computes_the_same_over_padding(name, device):
    net, x = network(name, device), cloud(300, device=device)
    wanted, rows = net(x), new_rows(x)
    has_voxels = name not in WITHOUT_VOXELS
    assert len(rows) == (5 if has_voxels else 1) and (0 < rows[0] <= 300) == has_voxels
    padded = pad(x, 377, capacities=[count + 13 for count in rows])
    padded.feats[300:] = torch.nan  # as a cloud before may have left them
    done = PaddedPass.run(net, padded)
    assert not has_voxels or new_rows(padded) == [count + 13 for count in rows]
    found = done.result(x, padded)
    check_close(found, wanted)
    if isinstance(found, PointTensor):
        assert found.coords is x.coords  # the points themselves, not those of the buffer
    for level in range(len(rows) if has_voxels else 0):
        less = [count - 1 if at == level else count for at, count in enumerate(rows)]
        padded = pad(x, 305, capacities=less)
        assert PaddedPass.run(net, padded).result(x, padded) is None


@torch.no_grad()
def test_points_in_many_rows_share_their_voxels_as_they_do_without_padding(device):
    x = cloud(500, edge=4.0, device=device)
    wanted = with_own_cache(x).voxels(2)
    padded = pad(x, 600, capacities=[100])
    found = padded.voxels(2)
    count = len(wanted.coords)
    assert torch.equal(found.coords[:count], wanted.coords) and (found.coords[count:, 0] == -1).all()
    assert len(found.coords) == 100 and found.tensor_stride == (2, 2, 2) and found.is_padded
    index = padded.segments(found).index
    assert torch.equal(index[:500], with_own_cache(x).segments(wanted).index) and (index[500:] == -1).all()
    assert (padded.items.index[500:] == -1).all() and padded.items.starts.diff().sum() == 500


class ReadsAtEverySpacing(nn.Module):
    """Points to their voxels, to coarser ones by a pooling, and back."""

    def __init__(self, mode, quantized):
        super().__init__()
        self.read = lambda x, points: spnn.voxel_to_point(x, points, mode, quantized=quantized)

    def forward(self, points):
        voxels = spnn.point_to_voxel(points)
        coarse = getattr(spnn, f"SparseMaxPool{points.dims}d")(2)(voxels)
        again = spnn.point_to_voxel(self.read(coarse, points), coarse)
        wide = ops.segment_mean(points.feats, points.segments(points.voxels(4)))  # fewer voxels, in as many rows
        return [self.read(x, points) for x in (voxels, coarse, again)], (wide.sum(0) + points.feats * 0)


@torch.no_grad()
@pytest.mark.parametrize("dims", [1, 2, 3, 4])
@pytest.mark.parametrize(("mode", "quantized"), [("trilinear", False), ("trilinear", True), ("nearest", False)])
@pytest.mark.parametrize(
    ("coords_dtype", "dtype"), [(torch.float32, torch.float16), (torch.float64, torch.float32)], ids=["half", "wide"]
)
def test_points_of_any_kind_read_the_same_over_padding(dims, mode, quantized, coords_dtype, dtype, device):
    x = cloud(200, edge=10.0, device=device)
    four_axes = torch.cat([x.coords, x.coords[:, 1:2] + 0.25], 1)
    x = PointTensor(four_axes[:, : 1 + dims].to(coords_dtype), x.feats.to(dtype), 3)
    net, known = ReadsAtEverySpacing(mode, quantized), with_own_cache(x)
    wanted, rows = net(known), new_rows(known)
    assert rows[0] == len(known.voxels().coords) > len(known.voxels(4).coords)
    for more in (0, 1, 60):  # a point in the last row, too
        padded = pad(x, 200 + more, capacities=[count + more for count in rows])
        found = PaddedPass.run(net, padded).result(x, padded)
        for one, other in zip(found[0], wanted[0], strict=True):
            assert torch.equal(one.feats, other.feats) and one.dtype == dtype and one.place is x.place
        torch.testing.assert_close(found[1], wanted[1])


class WithoutWaits(TorchDispatchMode):
    """Refuses what on a GPU waits for a value, or has as many rows as values say."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal.", "repeat_interleave.Tensor")
    OWN_WAITS = ("unique_coords.", "downsample_coords.", "upsample_coords.", "group_by_key.", "coords_extent.")

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        library, _, name = str(function).partition(".")
        waits = self.OWN_WAITS if library == "pcperc" else self.WAITS
        has_check = name.startswith(("build_kernel_map", "reverse_kernel_map"))
        assert not name.startswith(waits) and not (has_check and args[-1]), f"{function} waits"
        self.calls[name.partition(".")[0]] += 1
        return function(*args, **(kwargs or {}))


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_in_a_pass_over_padding_waits(name, monkeypatch):
    def nearest_rows(x, items, count):  # as on a GPU
        return ops.k_nearest(x, items, x, items, num_neighbors=count)[0]

    monkeypatch.setattr("pcperc.models.calorimeter.gravnet.nearest_rows", nearest_rows)
    net, x = network(name), cloud(300)
    with contextlib.nullcontext() if name in WITHOUT_VOXELS else pytest.raises(AssertionError, match="waits"):
        with WithoutWaits():
            net(with_own_cache(x))
    net(x)
    padded = pad(x, 377, capacities=[count + 13 for count in new_rows(x)])
    with WithoutWaits() as seen:
        PaddedPass.run(net, padded)
    by_name = {"neighbours": "k_nearest", "dense grids": "weighted_gather"}
    assert seen.calls[by_name.get(name, "unique_coords_padded")] > 0


def test_room_is_that_of_the_spacing_with_the_most_voxels():
    x = cloud(300)
    counts = [len(x.voxels(stride).coords) for stride in (4, 1, 2)]
    assert new_rows(x) == [max(counts)] and counts[1] > counts[2] > counts[0] > 0
    assert new_rows(with_own_cache(x)) == [0]
    equal = PointTensor.of_equal_clouds(torch.rand(2, 5, 3), torch.rand(2, 5, 1))
    assert with_own_cache(equal).points_per_cloud == 5


def test_results_in_containers_lose_their_padding():
    x = cloud(20)
    padded = pad(x, 30, capacities=[30])
    net = Gives(lambda x: {"rows": x.feats[:, 0] * 2, "points": [x.replace(feats=x.feats + 1)]})
    found = PaddedPass.run(net, padded).result(x, padded)
    assert torch.equal(found["rows"], x.feats[:, 0] * 2)
    (points,) = found["points"]
    assert points.place is x.place and torch.equal(points.feats, x.feats + 1)
    padded.feats.fill_(7)  # as the next replay does
    assert torch.equal(found["rows"], x.feats[:, 0] * 2)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda x: x.feats.sum(), ValueError, r"a row for each of the 30 points, got \(\)"),
        (lambda x: x.feats[:4], ValueError, r"a row for each of the 30 points, got \(4, 4\)"),
        (lambda x: x.take(torch.arange(30, dtype=torch.int32)), ValueError, "must be of the same points, got others"),
        (lambda x: spnn.point_to_voxel(x), TypeError, "capture: results must be tensors, .*, got SparseTensor"),
        (lambda x: {"a": [None]}, TypeError, "^capture: results must be tensors, .*, got NoneType"),
    ],
)
def test_what_a_network_of_points_may_not_give(function, error, message):
    padded = pad(cloud(20), 30, capacities=[30])
    with pytest.raises(error, match=message):
        PaddedPass.run(Gives(function), padded)
