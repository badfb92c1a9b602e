# SPDX-License-Identifier: Apache-2.0
"""Networks of points over padding equal those without, on a CPU too; captured ones, on a GPU, equal the network."""

import contextlib
import logging
from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import pcperc.nn as spnn
from pcperc import PointTensor, SparseTensor, ops
from pcperc.models import pvcnn
from pcperc.models.calorimeter import CaloSPVCNN, GravNet
from pcperc.models.minkunet import MinkUNet
from pcperc.models.on_voxels import OnVoxels
from pcperc.models.spvcnn import SPVCNN
from pcperc.nn.capture import CapturedNetwork
from pcperc.nn.padded_pass import PaddedPass
from pcperc.sparse.padding import new_rows, pad, with_own_cache
from tests.nn.test_capture import graphs_on_cpu as graphs_on_cpu  # a fixture
from tests.tolerances import tolerances

NETWORKS = {
    "voxels": lambda: OnVoxels(MinkUNet(4, 3, width=0.25)),
    "points and voxels": lambda: SPVCNN(4, 3, width=0.25),
    "quantized": lambda: SPVCNN(4, 3, width=0.25, quantized=True),
    "two heads": lambda: CaloSPVCNN(4, 3, 2, width=0.25),
    "neighbours": lambda: GravNet(4, 3, 2, neighbors=5),
    "dense grids": lambda: pvcnn.PVCNN(4, 3, blocks=[(8, 1, 4), (16, 1, None)], classifier=(8,), with_se=True),
}
WITHOUT_VOXELS = ("neighbours", "dense grids")


def cloud(count, seed=0, device="cpu", *, edge=24.0):
    """Points of three clouds, the second without any."""
    g = torch.Generator().manual_seed(seed)
    batch = torch.randint(0, 2, (count, 1), generator=g) * 2
    coords = torch.cat([batch, (torch.rand(count, 3, generator=g) - 0.5) * edge], 1)
    return PointTensor(coords.to(device), torch.randn(count, 4, generator=g).to(device), 3)


def network(name, device="cpu", *, fused=False):
    torch.manual_seed(0)
    net = NETWORKS[name]()
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1), module.running_var.uniform_(0.5, 1.5)
    net = net.eval().to(device)
    return spnn.fuse(net) if fused else net


def numbers(out):
    """What a network gives, as a list of tensors."""
    return [out.feats] if isinstance(out, PointTensor) else list(out)


def check_close(found, wanted):
    assert type(found) is type(wanted)
    for one, other in zip(numbers(found), numbers(wanted), strict=True):
        torch.testing.assert_close(one, other, **tolerances(one.dtype, 1000))


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


@pytest.mark.parametrize("name", NETWORKS)
def test_any_number_of_points_gives_the_networks_result(name, graphs_on_cpu, caplog):
    check_captured(CapturedNetwork, network(name), "cpu", caplog)


@pytest.mark.gpu
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_gives_the_networks_result(name, fused, caplog):
    if fused and name == "neighbours":
        pytest.skip("nothing in it is fused")
    check_captured(spnn.capture, network(name, "cuda", fused=fused), "cuda", caplog)


def check_captured(make, net, device, caplog):
    captured = make(net, capacity=400, margin=1.5)
    kept = []
    with caplog.at_level(logging.WARNING):
        for count, seed in ((300, 0), (300, 1), (7, 2), (0, 3), (390, 4), (400, 5)):
            x = cloud(count, seed, device)
            with torch.inference_mode(seed % 2 == 1):
                found = captured(x)
            assert not any(part.is_inference() or part.requires_grad for part in numbers(found))
            assert not isinstance(found, PointTensor) or found.place is x.place  # the points themselves
            with torch.no_grad():
                kept.append((found, net(x)))
        assert not caplog.records
        for found, wanted in kept:  # no later call changed one
            check_close(found, wanted)
        for count in (401, 1000):
            x = cloud(count, 5, device)
            with torch.no_grad():
                check_close(captured(x), net(x))
    (warning,) = caplog.records
    assert "401 points are more than its capacity of 400" in warning.message


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_graph_under_autocast(dtype):
    net = network("points and voxels", "cuda", fused=True)
    captured = spnn.capture(net, capacity=400)
    for seed in range(3):
        x = cloud(300 + seed, seed, "cuda")
        with torch.no_grad():
            plain = net(x)
            with torch.autocast("cuda", dtype):
                wanted, found = net(x), captured(x)
                again = captured(x)
        assert torch.equal(found.feats, again.feats) and found.dtype == wanted.dtype
        check_close(found, wanted)
        assert not torch.equal(found.feats.float(), plain.feats)


def test_voxels_that_find_no_room_run_without_the_graph(caplog, graphs_on_cpu):
    net = network("points and voxels")
    captured = CapturedNetwork(net, capacity=300, margin=1.0)
    for edge in (4.0, 60.0):  # many points in a voxel, then one
        x = cloud(300, edge=edge)
        with torch.no_grad():
            check_close(captured(x), net(x))
    (warning,) = caplog.records
    assert "it makes more voxels than there is room for; a larger margin makes more" in warning.message


def test_room_for_voxels_is_that_of_the_points_at_most():
    captured = CapturedNetwork(network("points and voxels"), capacity=1000, margin=2.0)
    x = cloud(100, edge=100.0)
    with torch.no_grad():
        captured.model(x)
    rows = new_rows(x)
    assert rows[0] > 90  # nearly every point has its own
    assert captured._capacities(x) == [1000] + [-(-1000 * 2 * count // 100) for count in rows[1:]]


@torch.no_grad()
def test_what_is_known_of_the_points_changes_nothing(caplog, graphs_on_cpu):
    x, net = cloud(300), network("points and voxels")
    captured = CapturedNetwork(net, capacity=400)
    spnn.SparseAvgPool3d(16)(spnn.point_to_voxel(x))  # a step down of few rows that is no part of the network
    with caplog.at_level(logging.WARNING):
        captured(x)
        check_close(captured(cloud(300, 1)), net(cloud(300, 1)))
    assert not caplog.records and len(x.kernel_maps.downsampled_rows) == 1


@torch.no_grad()
def test_each_form_of_input_has_a_graph_of_its_own(graphs_on_cpu, monkeypatch):
    captured = CapturedNetwork(Gives(lambda x: x.replace(feats=x.feats * 2)).eval(), capacity=30)
    x = cloud(20)
    plane = PointTensor(x.coords[:, :3], x.feats, 3)
    forms = [x, plane, PointTensor(x.coords, x.feats, 4), PointTensor(x.coords.double(), x.feats, 3), x.double()]
    forms += [x.replace(feats=x.feats[:, :2])]
    voxels = x.coords.floor().int().unique(dim=0)
    feats = torch.randn(len(voxels), 4)
    forms += [SparseTensor(voxels, feats, 3, tensor_stride=stride) for stride in (1, 2)]
    forms += [SparseTensor(voxels.clamp(min=0).unique(dim=0)[:1], feats[:1], 3, spatial_shape=99)]
    assert torch.equal(captured(cloud(0)).feats, torch.zeros(0, 4)) and not captured._graphs  # nothing to learn of
    for turn in range(2):
        for count, form in enumerate(forms, start=1):
            found = captured(form)
            assert len(captured._graphs) == (count if turn == 0 else len(forms))
            assert type(found) is type(form) and torch.equal(found.feats, form.feats * 2)
            assert torch.equal(found.coords, form.coords) and found.batch_size == form.batch_size
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", not torch.backends.cudnn.deterministic)
    captured(x)
    assert len(captured._graphs) == 1 + len(forms)


def test_room_is_that_of_the_spacing_with_the_most_voxels():
    x = cloud(300)
    counts = [len(x.voxels(stride).coords) for stride in (4, 1, 2)]
    assert new_rows(x) == [max(counts)] and counts[1] > counts[2] > counts[0] > 0
    assert new_rows(with_own_cache(x)) == [0]
    equal = PointTensor.of_equal_clouds(torch.rand(2, 5, 3), torch.rand(2, 5, 1))
    assert with_own_cache(equal).points_per_cloud == 5


class Gives(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


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


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="pad: capacity must be at least the 20 points, got 5"):
        pad(cloud(20), 5)
    with pytest.raises(ValueError, match="PointTensor.voxels: capacities must have one for the voxels .*, got none"):
        pad(cloud(20), 30).voxels()
    with pytest.raises(TypeError, match="CapturedNetwork: input must be a SparseTensor or a PointTensor, got Tensor"):
        CapturedNetwork(network("voxels"), capacity=10)(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="^capture: inputs must be on a CUDA device, got cpu"):
        CapturedNetwork(network("voxels"), capacity=400)(cloud(20))
