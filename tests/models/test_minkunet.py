# SPDX-License-Identifier: Apache-2.0
"""MinkUNet against dense convolutions whose empty places are wiped after each layer, and its published size."""

import pytest
import torch
import torch.nn.functional as F

from pcperc import SparseTensor, ops
from pcperc import nn as spnn
from pcperc.models import MinkUNet
from pcperc.registry import MODELS
from tests.nn.blocks import batch_norm, randomised
from tests.tolerances import tolerances

SMALL = (4, 4, 5, 6, 7, 7, 6, 5, 4)


def random_voxels(count=150, *, size=20, batch_size=2, channels=4, dtype=torch.float32) -> SparseTensor:
    coords = torch.cat([torch.randint(batch_size, (count, 1)), torch.randint(size, (count, 3))], 1).int().unique(dim=0)
    coords = coords[torch.randperm(len(coords))]
    return SparseTensor(coords, torch.randn(len(coords), channels, dtype=dtype), batch_size, spatial_shape=(size,) * 3)


def small_net(**options) -> MinkUNet:
    return randomised(MinkUNet(widths=SMALL, **options))


def dense_minkunet(net, x, mask):
    """The network in eval mode on a grid (B, C, X, Y, Z) with a mask of occupied places (B, 1, X, Y, Z)."""

    def block(module, x, mask, *, shortcut=0):
        conv, stride = module.conv, module.conv.stride
        x = F.conv3d(x, conv.weight.permute(4, 3, 0, 1, 2), stride=stride, padding=conv.padding)
        x = batch_norm(module.norm, x) + shortcut
        return (x if module.activation is None else x.relu()) * mask

    def residual(module, x, mask):
        shortcut = x if module.shortcut is None else block(module.shortcut, x, mask)
        return block(module.block2, block(module.block1, x, mask), mask, shortcut=shortcut)

    def up(module, x, mask):
        x = F.conv_transpose3d(x, module.conv.weight.permute(3, 4, 0, 1, 2), stride=2)
        padding = [m - n for n, m in zip(x.shape[:1:-1], mask.shape[:1:-1], strict=True) for m, n in ((0, 0), (m, n))]
        return batch_norm(module.norm, F.pad(x, padding)).relu() * mask

    for module in net.stem:
        x = block(module, x, mask)
    skips, masks = [], []
    for stage in net.down_stages:
        skips.append(x), masks.append(mask)
        mask = F.max_pool3d(mask, 2)
        x = block(stage.down, x, mask)
        for module in stage.blocks:
            x = residual(module, x, mask)
    for stage in net.up_stages:
        skip, mask = skips.pop(), masks.pop()
        x = torch.cat([up(stage.up, x, mask), skip], 1)
        for module in stage.blocks:
            x = residual(module, x, mask)
    return x


def test_equals_dense_convolutions():
    net = small_net(num_classes=3).double()
    voxels = random_voxels(dtype=torch.float64, size=32)
    b, i, j, k = voxels.coords.long().unbind(1)
    mask = voxels.replace(feats=torch.ones(len(voxels), 1, dtype=torch.float64)).dense()
    with torch.no_grad():
        features = dense_minkunet(net, voxels.dense(), mask)[b, :, i, j, k]
        expected = F.linear(features, net.classifier.weight, net.classifier.bias)
        found = net(voxels)
    assert found.topology is voxels.topology
    torch.testing.assert_close(found.feats, expected)


def test_published_size_and_layers():
    """21.7M parameters at width 1, 8.8M at 0.64, 5.4M at 0.5 (the published 5.5M count unused point layers)."""

    def residual(i, o):
        return 27 * i * o + 27 * o * o + 4 * o + (i * o + 2 * o if i != o else 0)

    for width, published in ((1.0, 21.7e6), (0.64, 8.8e6), (0.5, 5.4e6)):
        c = [int(width * v) for v in (32, 32, 64, 128, 256, 256, 128, 96, 96)]
        count = 27 * 4 * c[0] + 27 * c[0] ** 2 + 4 * c[0]
        for k in range(4):
            count += 8 * c[k] ** 2 + 2 * c[k] + residual(c[k], c[k + 1]) + residual(c[k + 1], c[k + 1])
            up = c[k + 5]
            count += 8 * c[k + 4] * up + 2 * up + residual(up + c[3 - k], up) + residual(up, up)
        count += c[-1] * 19 + 19
        net = MODELS.build(dict(type="MinkUNet", num_classes=19, width=width))
        assert sum(p.numel() for p in net.parameters()) == count
        assert count == pytest.approx(published, rel=0.01)
    convs = [m for m in net.modules() if isinstance(m, spnn.SparseConv3d | spnn.SubMConv3d | spnn.SparseInverseConv3d)]
    assert sum(m.kernel_size != (1, 1, 1) for m in convs) == 42


def test_each_kernel_map_is_built_once_and_only_given_rows_are_checked(monkeypatch):
    built = []
    build, reverse = ops.build_kernel_map, ops.reverse_kernel_map

    def counted_build(*coords, **options):
        built.append(("build", options["kernel_size"][0], options["check"]))
        return build(*coords, **options)

    def counted_reverse(table, **options):
        built.append(("reverse", len(table), options["check"]))
        return reverse(table, **options)

    monkeypatch.setattr(ops, "build_kernel_map", counted_build)
    monkeypatch.setattr(ops, "reverse_kernel_map", counted_reverse)
    MinkUNet(widths=SMALL)(random_voxels()).feats.sum().backward()
    # The submanifold tables are their own reverse. Rows of the input are checked once, those that layers made are not.
    wanted = [("build", 3, True), ("build", 2, False), ("reverse", 8, False)]
    for _ in range(3):
        wanted += [("build", 3, False), ("build", 2, False), ("reverse", 8, False)]
    assert built == [*wanted, ("build", 3, False)]


def test_order_of_voxels_does_not_matter():
    net, voxels = small_net(), random_voxels()
    order = torch.randperm(len(voxels))
    shuffled = SparseTensor(voxels.coords[order], voxels.feats[order], 2, spatial_shape=voxels.spatial_shape)
    with torch.no_grad():
        torch.testing.assert_close(net(shuffled).feats, net(voxels).feats[order], rtol=1e-4, atol=1e-4)


def test_fused_network_gives_the_same():
    net, voxels = small_net(num_classes=3), random_voxels()
    with torch.no_grad():
        expected, found = net(voxels).feats, spnn.fuse(net)(voxels).feats
    # The drift of a layer is carried through the 42.
    torch.testing.assert_close(found, expected, **{k: 42 * v for k, v in tolerances(torch.float32, 27 * 12).items()})


@pytest.mark.parametrize("training", [True, False])
def test_no_voxels_pass_through(training):
    net = small_net(num_classes=3).train(training)
    voxels = SparseTensor(torch.zeros(0, 4).int(), torch.zeros(0, 4), 2)
    out = net(voxels)
    assert out.feats.shape == (0, 3)
    out.feats.sum().backward()


def test_learns_the_labels_of_one_cloud():
    voxels = random_voxels(60, size=16)
    labels = torch.randint(3, (len(voxels),))
    net = MinkUNet(num_classes=3, widths=SMALL)
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(40):
        loss = F.cross_entropy(net(voxels).feats, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05


@pytest.mark.parametrize(
    ("options", "message"), [({"width": 0.01}, "nine numbers >= 1"), ({"widths": (4,) * 8}, "nine")]
)
def test_wrong_widths_are_named(options, message):
    with pytest.raises(ValueError, match=f"MinkUNet: widths must be .*{message}"):
        MinkUNet(**options)
