# SPDX-License-Identifier: Apache-2.0
"""SPVCNN against its formulas in float64, layer by layer, and its published sizes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.testing import CompileCounterWithBackend

import pcperc.nn as spnn
from pcperc import PointTensor, ops
from pcperc.models import SPVCNN, MinkUNet
from pcperc.registry import MODELS
from tests import oracles_points
from tests.nn.blocks import randomised
from tests.sparse.test_point_tensor import random_points
from tests.tolerances import tolerances

SMALL = (4, 4, 5, 6, 7, 7, 6, 5, 4)


def small_net(**options) -> SPVCNN:
    return randomised(SPVCNN(3, 5, **{"widths": SMALL, **options}))


def recorded(net, points, monkeypatch):
    """The output, and by name what each layer gave, the first voxels, and what points read at each meeting."""
    layers, reads, means = {}, [], []

    def kept(function, results):
        def run(*arguments, **options):
            results.append(function(*arguments, **options))
            return results[-1]

        return run

    monkeypatch.setattr("pcperc.models.spvcnn.voxel_to_point", kept(spnn.voxel_to_point, reads))
    monkeypatch.setattr("pcperc.models.spvcnn.point_to_voxel", kept(spnn.point_to_voxel, means))
    for name, module in net.named_modules():
        module.register_forward_hook(lambda _, __, out, name=name: layers.update({name: out.feats.detach().cpu()}))
    out = net(points).feats.detach().cpu()
    layers |= {f"z{number}": points.feats.detach().cpu() for number, points in enumerate(reads)}
    return out, layers | {"voxels": means[0].feats.cpu()}


SUBNET = {
    "inner_widths": ((3, 5), (2,), (4, 4), (7,), (2, 2), (5,), (3, 3), (1,)),
    "transitions": range(2, 10),
    "project_first": True,
}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "training"])
@pytest.mark.parametrize("quantized", [False, True], ids=["exact", "quantized"])
@pytest.mark.parametrize("options", [{}, SUBNET], ids=["published", "subnet"])
def test_every_layer_is_that_of_the_formulas(options, quantized, training, device, monkeypatch):
    net = small_net(**options, quantized=quantized, dropout=0.0).double().train(training)
    points = random_points(120, low=0, high=20)
    state = {key: value.numpy().copy() for key, value in net.state_dict().items()}
    oracle = oracles_points.SPVCNN(state, quantized=quantized, training=training)
    expected = oracle(points.coords.numpy(), points.feats.numpy())
    found, layers = recorded(net.to(device), points.to(device), monkeypatch)
    for name, values in oracle.layers.items():
        np.testing.assert_allclose(layers[name].numpy(), values, rtol=1e-8, atol=1e-8, err_msg=name)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8, atol=1e-8)
    kinds = (spnn.ResidualBlock, spnn.ConvBlock)
    blocks = {name for name, module in net.named_modules() if isinstance(module, kinds)}
    blocks = {name for name in blocks if not name.endswith(("block1", "block2", "shortcut"))}
    assert set(oracle.layers) == blocks | {f"point_transforms.{i}" for i in range(3)} | {
        "voxels",
        "z0",
        "z1",
        "z2",
        "z3",
    }


def test_published_sizes():
    """Millions of parameters: the U-Net alone and with the branch of points."""
    published = {0.5: ("5.435", "5.45"), 0.64: ("8.771", "8.79"), 1.0: ("21.723", "21.78")}
    for width, sizes in published.items():
        for kind, size in zip((MinkUNet, SPVCNN), sizes, strict=True):
            net = MODELS.build(dict(type=kind.__name__, num_classes=19, width=width))
            count = sum(p.numel() for p in net.parameters()) / 1e6
            assert f"{count:.{len(size.split('.')[1])}f}" == size


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_points(count, training):
    net = small_net().train(training)
    points = random_points(count, dtype=torch.float32)
    out = net(points)
    assert out.feats.shape == (count, 5) and out.feats.isfinite().all()
    out.feats.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_an_empty_cloud_of_a_batch_changes_nothing():
    net, points = small_net(), random_points(batch_size=1, dtype=torch.float32)
    coords = points.coords + torch.tensor([1.0, 0, 0, 0])
    with torch.no_grad():
        assert torch.equal(net(PointTensor(coords, points.feats, 3)).feats, net(points).feats)


def test_order_of_points_does_not_matter():
    net, points = small_net().double(), random_points(100)
    order = torch.randperm(100)
    with torch.no_grad():
        shuffled = net(PointTensor(points.coords[order], points.feats[order], 2)).feats
        torch.testing.assert_close(shuffled, net(points).feats[order])


def test_quantized_gives_one_answer_to_a_voxel_and_the_exact_one_does_not():
    points = random_points(200, low=-3, high=3, dtype=torch.float32)
    for quantized in (True, False):
        net = small_net(quantized=quantized)
        with torch.no_grad():
            out = net(points.replace(feats=torch.ones(200, 3))).feats
        row = points.segments(points.voxels()).index.long()
        first = torch.zeros(int(row.max()) + 1).long().scatter_(0, row, torch.arange(200))
        assert torch.allclose(out, out[first[row]], atol=1e-5) == quantized  # products of equal rows may round apart


def test_a_second_pass_over_the_same_points_looks_nothing_up(monkeypatch):
    """As when several subnets are trained on one batch."""
    points = random_points(dtype=torch.float32)
    small_net()(points)
    for name in ("unique_coords", "downsample_coords", "build_kernel_map", "make_interpolation_plan"):
        monkeypatch.setattr(ops, name, lambda *_, **__: pytest.fail("looked up again"))
    small_net(inner_widths=((3,),) * 8)(points)


def test_dropout_is_before_the_first_and_third_stage_up():
    net, points = small_net(dropout=1.0).train(), random_points(dtype=torch.float32)
    seen = []
    for stage in net.up_stages:
        stage.register_forward_pre_hook(lambda _, inputs: seen.append(bool((inputs[0].feats == 0).all())))
    net(points)
    assert seen == [True, False, True, False]
    assert SPVCNN().dropout.p == 0.3


def test_fused_network_gives_the_same():
    net, points = small_net(), random_points(dtype=torch.float32)
    with torch.no_grad():
        expected, found = net(points).feats, spnn.fuse(net)(points).feats
    torch.testing.assert_close(found, expected, **{k: 42 * v for k, v in tolerances(torch.float32, 27 * 12).items()})


def test_compiles_once_for_every_number_of_points():
    net = small_net(inner_widths=((2,),) * 8)

    def program(coords, feats):
        return net(PointTensor(coords, feats, 2)).feats

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(program, backend=counter, fullgraph=True, dynamic=True)
    with torch.no_grad():
        for count in (60, 200):
            points = random_points(count, dtype=torch.float32)
            torch.testing.assert_close(compiled(points.coords, points.feats), net(points).feats)
    assert counter.frame_count == 1


def test_learns_the_labels_of_points():
    points, labels = random_points(60, dtype=torch.float32), torch.randint(3, (60,))
    net = SPVCNN(3, 3, widths=SMALL, dropout=0.0)
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(40):
        loss = F.cross_entropy(net(points).feats, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0.01}, "widths must be nine numbers >= 1"),
        ({"widths": (4,) * 8}, "widths must be nine numbers >= 1"),
        ({"transitions": (4,) * 9}, "transitions must be eight numbers >= 1"),
        ({"inner_widths": [(4, 4)] * 7}, "inner_widths must be of eight stages, got 7"),
        ({"inner_widths": [(4, 4)] * 7 + [()]}, r"inner_widths must be one number a block >= 1, got \(\)"),
        ({"inner_widths": [(4, 4)] * 7 + [(4, 0)]}, r"inner_widths must be .*, got \(4, 0\)"),
    ],
)
def test_wrong_widths_are_named(options, message):
    with pytest.raises(ValueError, match=f"SPVCNN: {message}"):
        SPVCNN(**options)


def test_wrong_inputs_are_named():
    net, points = small_net(), random_points(dtype=torch.float32)
    with pytest.raises(TypeError, match="SPVCNN: points must be a PointTensor, got Tensor"):
        net(points.feats)
    with pytest.raises(ValueError, match="SubMConv3d: input must have 3 channels, got 4"):
        net(points.replace(feats=torch.zeros(60, 4)))
    with pytest.raises(ValueError, match=r"SPVCNN: dropout must be in \[0, 1\], got 2"):
        SPVCNN(dropout=2)
