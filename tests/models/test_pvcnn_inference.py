# SPDX-License-Identifier: Apache-2.0
"""Networks of points for inference: fused, and with the wide layers on some rows after the other."""

import copy

import pytest
import torch
from torch import nn

import pcperc.nn as spnn
from pcperc.models import SPVCNN, pvcnn
from pcperc.nn import shared_mlp
from pcperc.sparse import PointTensor
from tests.models.pvcnn_clouds import cloud_of, randomize
from tests.tolerances import tolerances

NETWORKS = {
    "pvcnn_s3dis": dict(width=0.125, resolution_scale=0.25),
    "pvcnn_shapenet": dict(width=0.125, resolution_scale=0.25),
    "pvcnn2_s3dis": dict(width=0.125, resolution_scale=0.25),
    "pointnet_s3dis": dict(width=0.125),
    "pointnet_shapenet": dict(width=0.125),
    "pointnet2_shapenet": dict(width=0.125),
    "pvcnn_modelnet": dict(width=0.125, resolution_scale=0.25),
    "frustum_pvcnn_kitti": dict(width=0.125),
}
EVERY = pytest.mark.parametrize("name", NETWORKS)


def network_and_input(name, *sizes, dtype=torch.float64, device="cpu"):
    model = randomize(getattr(pvcnn, name)(**NETWORKS[name])).eval().to(device, dtype)
    points = cloud_of(*sizes, channels=getattr(model, "in_channels", 4), dtype=dtype, device=device)
    is_told = name == "frustum_pvcnn_kitti" or getattr(model, "num_categories", 0)
    told = (torch.arange(len(sizes), device=device) % 3,) if is_told else ()
    return model, (points, *told)


def results(model, inputs, *, bound=False):
    """All that a network returns; where a choice follows from it, (bound), what comes before."""
    with torch.inference_mode():
        out = model(*inputs)
    if isinstance(out, tuple):
        return [out.mask_logits] if bound else list(out)
    return [out if isinstance(out, torch.Tensor) else out.feats]


def assert_close(found, expected, **options):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **options)


def is_norm(module):
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


@EVERY
def test_fused_networks_give_the_same(name, device):
    model, inputs = network_and_input(name, 60, 0, 9, device=device)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    fused = spnn.fuse(model)
    assert not any(is_norm(module) for module in fused.modules()) and any(is_norm(module) for module in model.modules())
    before = [tensor.clone() for tensor in (inputs[0].feats, inputs[0].coords)]
    expected = results(model, inputs)
    for _ in range(2):  # what works in place leaves the network and its input as they are
        assert_close(results(fused, inputs), expected, rtol=1e-9, atol=1e-10)
    assert torch.equal(inputs[0].feats, before[0]) and torch.equal(inputs[0].coords, before[1])
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


@EVERY
def test_fused_networks_in_float32(name, device):
    model, inputs = network_and_input(name, 60, 20, dtype=torch.float32, device=device)
    exact, wide = copy.deepcopy(model).double(), (inputs[0].replace(feats=inputs[0].feats.double()), *inputs[1:])
    found = results(spnn.fuse(model), inputs, bound=True)
    # Some ten layers of up to 256 terms, each with the rounding of its own and of the grid that it reads.
    options = {key: 30 * value for key, value in tolerances(torch.float32, 256).items()}
    assert_close([tensor.double() for tensor in found], results(exact, wide, bound=True), **options)


@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_fused_networks_under_autocast(name, dtype, device):
    model, inputs = network_and_input(name, 60, 20, dtype=torch.float32, device=device)
    expected = results(model, inputs, bound=True)
    with torch.autocast(device.type, dtype):
        plain, found = (results(network, inputs, bound=True) for network in (model, spnn.fuse(model)))
    for one, other, exact in zip(found, plain, expected, strict=True):
        assert one.dtype == other.dtype == dtype
        scale = exact.abs().max()
        error, usual = ((x.float() - exact).abs().max() / scale for x in (one, other))
        assert error < 2 * usual + 4 * torch.finfo(dtype).eps  # no more than the network has without


def test_points_of_spvcnn_are_fused(device):
    model = randomize(SPVCNN(4, 5, width=0.125)).eval().to(device)
    points = cloud_of(40, 20, channels=4, device=device)
    points = PointTensor(points.coords * points.coords.new_tensor([1, 9, 9, 9]), points.feats)
    fused = spnn.fuse(model)
    assert not any(is_norm(module) for module in fused.modules())
    with torch.no_grad():
        torch.testing.assert_close(fused(points).feats, model(points).feats, rtol=1e-9, atol=1e-10)


def recorded(forward, rows):
    def call(x):
        rows.append(len(x))
        return forward(x)

    return call


@pytest.fixture
def small_tables(monkeypatch):
    """Let a table take so many bytes, and list how many rows each perceptron that is watched gets."""

    def watch(limit, *layers):
        monkeypatch.setattr(shared_mlp, "MAX_TABLE_BYTES", limit)
        rows = []
        for layer in layers:
            monkeypatch.setattr(layer, "forward", recorded(layer.forward, rows))  # a hook would get all rows
        return rows

    return watch


@EVERY
@pytest.mark.parametrize("equal", [False, True], ids=["any", "equal"])
def test_slices_give_what_the_whole_gives(name, equal, small_tables, device):
    model, inputs = network_and_input(name, *((30, 30) if equal else (30, 0, 1, 29)), device=device)
    if equal:
        xyz = inputs[0].coords[inputs[0].coords[:, 0].sort(stable=True).indices, 1:].reshape(2, 30, 3)
        inputs = (PointTensor.of_equal_clouds(xyz, inputs[0].feats.reshape(2, 30, -1)), *inputs[1:])
    fused = spnn.fuse(model)
    expected = results(model, inputs)
    for limit in (7 * 8 * 256, 1):  # a few rows of the widest layer, and a row at once
        small_tables(limit)
        for network in (model, fused):
            assert_close(results(network, inputs), expected, rtol=1e-9, atol=1e-10)


def test_rows_of_the_last_layers_pass_in_slices(small_tables):
    model, inputs = network_and_input("pvcnn_shapenet", 30, 0, 1, 29)
    *_, before, last = model.point_layers
    rows = small_tables(8 * 256 * 25, before, last)
    results(model, inputs)
    assert rows == [25, 25, 25, 25, 10, 10]
    rows.clear()
    model(*inputs)  # a gradient needs the tables
    assert rows == [60, 60]
    rows.clear()
    last[1].train()  # statistics of all rows
    results(model, inputs)
    assert rows == [60, 60]


def test_groups_of_an_abstraction_pass_in_slices(small_tables):
    model, inputs = network_and_input("pointnet2_shapenet", 30, 1)
    rows = small_tables(8 * 16 * 64 * 7, model.abstractions[0].mlp)
    results(model, inputs)
    assert rows == [7 * 64] * 4 + [3 * 64]
    rows.clear()
    model(*inputs)
    assert rows == [31 * 64]


@pytest.mark.parametrize("part", [False, True], ids=["layer", "part"])
@pytest.mark.parametrize("name", ["pvcnn_shapenet", "pointnet2_shapenet"])
def test_a_hook_gets_of_many_points_what_it_gets_of_few(name, part, small_tables):
    model, inputs = network_and_input(name, 30, 1)
    layer = model.abstractions[0].mlp if name == "pointnet2_shapenet" else model.point_layers[-1]
    seen = []
    (layer[0] if part else layer).register_forward_hook(lambda *call: seen.append(call[1][0]))
    for limit in (2**26, 1):
        small_tables(limit)
        results(model, inputs)
    few, many = seen
    assert type(few) is type(many) and len(few) == len(many)


def test_a_value_that_is_no_number_wins_in_slices_too(small_tables):
    model, inputs = network_and_input("pointnet_s3dis", 30, 30)
    batch = inputs[0].coords[:, 0]
    feats = inputs[0].feats.clone()
    feats[int((batch == 1).nonzero()[-1])] = torch.nan
    points = inputs[0].replace(feats=feats)
    expected = results(model, [points])[0]
    assert expected[batch == 1].isnan().all() and expected[batch == 0].isfinite().all()
    small_tables(1)
    torch.testing.assert_close(results(model, [points])[0], expected, equal_nan=True)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["pvcnn_s3dis", "pvcnn_shapenet", "pvcnn2_s3dis", "pointnet2_shapenet"])
@pytest.mark.parametrize("limit", [2**16, 2**26], ids=["slices", "whole"])
def test_a_graph_of_a_fused_network_repeats_it(name, limit, small_tables):
    model, inputs = network_and_input(name, 3, 3, 3, dtype=torch.float32, device="cuda")
    model, told = spnn.fuse(model), inputs[1:]
    generator = torch.Generator().manual_seed(0)
    xyz = (torch.rand(3, 1100, 3, generator=generator) * 2 - 1).cuda()
    feats = torch.randn(3, 1100, model.in_channels, generator=generator).cuda()
    watched = model.point_layers[-1] if hasattr(model, "point_layers") else model.abstractions[0].mlp
    rows = small_tables(limit, watched)

    def run():
        return model(PointTensor.of_equal_clouds(xyz, feats), *told).feats

    with torch.inference_mode():
        expected = run()
        assert (len(rows) == 1) == (limit == 2**26)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                run()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = run()
        before = xyz.clone()
        xyz.copy_(torch.rand_like(xyz))
        graph.replay()
        moved = result.clone()
        xyz.copy_(before)
        graph.replay()
    assert torch.equal(result, expected) and not torch.equal(moved, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("equal", [False, True], ids=["any", "equal"])
def test_a_wide_table_is_never_there_on_a_gpu(equal, small_tables):
    count, width = 1 << 17, 2048
    model = pvcnn.PVCNN(3, 5, blocks=[(16, 1, None), (width, 1, None)], classifier=(16,)).cuda().eval()
    xyz = torch.rand(1, count, 3, device="cuda")
    points = PointTensor.of_equal_clouds(xyz, xyz)
    points = points if equal else PointTensor(points.coords, points.feats, 1)
    model = spnn.fuse(model)
    peaks, found = [], []
    for limit in (2**40, 2**24):
        small_tables(limit)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        found += results(model, [points])
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[0] > 4 * count * width > 8 * peaks[1]
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-3)
