# SPDX-License-Identifier: Apache-2.0
"""Clouds of equal size: the same results as of any size, and nothing that a graph of a GPU could not hold."""

import subprocess
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pcperc.models import pvcnn
from pcperc.sparse import PointTensor

# What brings a value to the host, or makes a size of one; and what makes a tensor of values of the host.
WAITS = {
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::is_nonzero",
    "aten::equal",
    "aten::lift_fresh",
    "aten::repeat_interleave.Tensor",
}
NETWORKS = {
    "pvcnn_s3dis": dict(width=0.125),
    "pvcnn2_s3dis": dict(width=0.125, resolution_scale=0.25),
    "pvcnn_shapenet": dict(width=0.125),
    "pointnet2_shapenet": dict(width=0.125),
}


class NoWaits(TorchDispatchMode):
    """Raise for an operator that could not be part of a CUDA graph."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name() in WAITS or func._schema.name in WAITS:
            raise AssertionError(f"waits for the device: {func.name()}")
        if func._schema.name == "aten::index" and any(i is not None and i.dtype == torch.bool for i in args[1]):
            raise AssertionError("waits for the device: a mask as index")
        return func(*args, **(kwargs or {}))


def network_and_clouds(name, device, count=40):
    model = getattr(pvcnn, name)(**NETWORKS[name]).eval().to(device)
    generator = torch.Generator().manual_seed(0)
    xyz = (torch.rand(3, count, 3, generator=generator) * 2 - 1).to(device)
    feats = torch.randn(3, count, model.in_channels, generator=generator).to(device)
    categories = (torch.tensor([0, 5, 2], device=device),) if model.num_categories else ()
    return model, xyz, feats, categories


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("count", [40, 1100])
def test_equal_clouds_give_what_any_clouds_give(name, count, device):
    model, xyz, feats, categories = network_and_clouds(name, device, count)
    batch = torch.arange(3, device=device).repeat_interleave(count)
    coords = torch.cat([batch[:, None].float(), xyz.flatten(0, 1)], 1)
    with torch.inference_mode():
        expected = model(PointTensor(coords, feats.flatten(0, 1), 3), *categories).feats
        assert torch.equal(model(PointTensor.of_equal_clouds(xyz, feats), *categories).feats, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_waits_for_the_device(name):
    model, xyz, feats, categories = network_and_clouds(name, "cpu")
    with torch.inference_mode(), NoWaits():
        model(PointTensor.of_equal_clouds(xyz, feats), *categories)


def test_the_watch_sees_what_waits():
    points = PointTensor.of_equal_clouds(torch.rand(2, 4, 3), torch.rand(2, 4, 9))
    general = PointTensor(points.coords, points.feats, 2)
    with torch.inference_mode(), NoWaits(), pytest.raises(AssertionError, match="waits for the device"):
        pvcnn.pvcnn2_s3dis(width=0.125).eval()(general)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_of_a_gpu_repeats_the_network(name):
    model, xyz, feats, categories = network_and_clouds(name, "cuda", 1100)
    with torch.inference_mode():
        expected = model(PointTensor.of_equal_clouds(xyz, feats), *categories).feats
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                model(PointTensor.of_equal_clouds(xyz, feats), *categories)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = model(PointTensor.of_equal_clouds(xyz, feats), *categories).feats
        other = torch.rand_like(xyz)
        before = xyz.clone()
        xyz.copy_(other)
        graph.replay()
        moved = result.clone()
        xyz.copy_(before)
        graph.replay()
    assert torch.equal(result, expected) and not torch.equal(moved, expected)


TOLD = ("pvcnn_shapenet", "pointnet2_shapenet")


@pytest.mark.parametrize("wrong", [-1, 16])
@pytest.mark.parametrize("name", TOLD)
def test_a_category_that_the_network_does_not_know_is_refused(name, wrong):
    """Without a wait: what refuses it is part of the pass."""
    model, xyz, feats, (categories,) = network_and_clouds(name, "cpu")
    categories[1] = wrong
    message = rf"categories must be in \[0, 16\), got \[0, {wrong}, 2\]"
    with torch.inference_mode(), NoWaits(), pytest.raises(ValueError, match=message):
        model(PointTensor.of_equal_clouds(xyz, feats), categories)


def test_a_compiled_network_refuses_it_too():
    model, xyz, feats, (categories,) = network_and_clouds("pvcnn_shapenet", "cpu")

    @torch.compile(backend="eager", fullgraph=True)
    def run(categories):
        return model(PointTensor.of_equal_clouds(xyz, feats), categories).feats

    with torch.inference_mode():
        expected = model(PointTensor.of_equal_clouds(xyz, feats), categories).feats
        assert torch.equal(run(categories), expected)
        with pytest.raises(RuntimeError, match=r"PVCNN: categories must be in \[0, 16\)"):
            run(categories + 14)


IN_A_GRAPH = """
import torch
from pcperc.sparse import PointTensor
from tests.models.test_pvcnn_equal_clouds import network_and_clouds
model, xyz, feats, (categories,) = network_and_clouds("pvcnn_shapenet", "cuda")
with torch.inference_mode():
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            model(PointTensor.of_equal_clouds(xyz, feats), categories)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model(PointTensor.of_equal_clouds(xyz, feats), categories)
    categories.fill_(15)
    graph.replay()
    torch.cuda.synchronize()
    print("known", flush=True)
    categories.fill_(16)
    graph.replay()
    torch.cuda.synchronize()
    print("unknown", flush=True)
"""


@pytest.mark.gpu
def test_a_graph_of_a_gpu_refuses_a_category_that_it_does_not_know():
    """In a process of its own: a failed assertion of the device ends all that it can do for one."""
    done = subprocess.run([sys.executable, "-c", IN_A_GRAPH], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["known"] and done.returncode != 0
    assert "categories must be in" in done.stderr or "device-side assert" in done.stderr


def test_says_what_is_wrong():
    for shapes in (((2, 3), (2, 3, 1)), ((2, 3, 3), (2, 4, 1)), ((2, 0, 3), (2, 0, 1)), ((0, 3, 3), (0, 3, 1))):
        with pytest.raises(ValueError, match=r"of_equal_clouds: xyz and feats must be \(B, S, D\) and \(B, S, C\)"):
            PointTensor.of_equal_clouds(*map(torch.zeros, shapes))
    with pytest.raises(TypeError, match="of_equal_clouds: xyz must be a tensor, got list"):
        PointTensor.of_equal_clouds([], torch.zeros(1, 1, 1))
