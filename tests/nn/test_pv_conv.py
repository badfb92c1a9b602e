# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from pcperc import nn as spnn
from pcperc.nn import pv_conv
from pcperc.sparse import PointTensor
from tests import oracles_pvcnn
from tests.models.pvcnn_clouds import arrays, cloud_of, randomize, state_of


def expected_of(layer, points, training):
    state = {f"x.{name}": value for name, value in state_of(layer).items()}
    options = dict(resolution=layer.resolution, normalize=layer.normalize, training=training)
    return torch.from_numpy(oracles_pvcnn.pv_conv(state, "x", *arrays(points), batch_size=points.batch_size, **options))


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize(("with_se", "normalize"), [(False, True), (True, False)], ids=["plain", "se_cube"])
def test_equals_the_formulas(with_se, normalize, training, device):
    points = cloud_of(40, 0, 9, 1, channels=5, device=device)
    layer = randomize(spnn.PVConv(5, 16, resolution=6, with_se=with_se, normalize=normalize)).train(training).to(device)
    expected = expected_of(layer, points, training)
    torch.testing.assert_close(layer(points).feats.cpu(), expected, rtol=1e-9, atol=1e-10)


def test_gradients(device):
    points = cloud_of(7, 4, channels=3, device=device)
    layer = randomize(spnn.PVConv(3, 2, resolution=3, with_se=True)).to(device)
    feats = points.feats.requires_grad_()
    parameters = [p for p in layer.parameters()]
    with torch.backends.cudnn.flags(deterministic=True):  # torch's dense convolution
        assert torch.autograd.gradcheck(lambda f, *_: layer(points.replace(feats=f)).feats, (feats, *parameters))


def test_layers_of_one_resolution_share_the_grid():
    points = cloud_of(9, 4, channels=3)
    other = spnn.PVConv(3, 4, resolution=3).double()(points)
    assert other.dense_grid(3) is points.dense_grid(3) and other.dense_grid(3) is not points.dense_grid(4)
    assert points.dense_grid(3, normalize=False) is not points.dense_grid(3)


@pytest.fixture
def convolved(monkeypatch):
    """Let a grid take as much as of so many clouds of a layer, and list how many clouds it convolves at a time."""

    def watch(layer, clouds):
        values = layer.resolution**3 * max(layer.in_channels, layer.out_channels)
        monkeypatch.setattr(pv_conv, "MAX_GRID_BYTES", clouds * values * 8)
        sizes, forward = [], layer.voxel_layers.forward  # a hook would get all clouds

        def call(volume):
            sizes.append(len(volume))
            return forward(volume)

        monkeypatch.setattr(layer.voxel_layers, "forward", call)
        return sizes

    return watch


def five_equal_clouds(device="cpu"):
    generator = torch.Generator().manual_seed(3)
    xyz, feats = (torch.randn(5, 20, 3, generator=generator, dtype=torch.float64).to(device) for _ in range(2))
    return PointTensor.of_equal_clouds(xyz, feats)


@pytest.mark.parametrize(("clouds", "sizes"), [(0, [1] * 5), (2, [2, 2, 1]), (4, [4, 1]), (5, [5]), (9, [5])], ids=str)
@pytest.mark.parametrize("normalize", [True, False], ids=["scaled", "cube"])
def test_grids_of_equal_clouds_pass_in_parts(normalize, clouds, sizes, convolved, device):
    points = five_equal_clouds(device)
    layer = randomize(spnn.PVConv(3, 4, resolution=4, with_se=True, normalize=normalize)).eval().to(device)
    expected = layer(points).feats.detach()
    found = convolved(layer, clouds)
    with torch.no_grad():
        torch.testing.assert_close(layer(points).feats, expected, rtol=1e-9, atol=1e-10)
    assert found == sizes


def test_grids_that_belong_together_do_not_pass_in_parts(convolved):
    points, layer = five_equal_clouds(), randomize(spnn.PVConv(3, 4, resolution=4)).eval()
    sizes = convolved(layer, 1)
    layer(points)  # a gradient needs the grids
    with torch.no_grad():
        layer(PointTensor(points.coords, points.feats))  # not known to be equal
        layer.train()(points)  # statistics of all clouds
        layer.eval()(points)
        layer.voxel_layers[1].register_forward_hook(lambda *_: None)  # which gets all clouds
        layer(points)
    assert sizes == [5, 5, 5, 1, 1, 1, 1, 1, 5]


def test_clouds_do_not_see_each_other():
    points = cloud_of(12, 5, channels=3)
    layer = randomize(spnn.PVConv(3, 4, resolution=4, with_se=True)).eval()
    both = layer(points).feats
    for cloud in range(2):
        rows = (points.coords[:, 0] == cloud).nonzero().flatten()
        alone = torch.cat([torch.zeros(len(rows), 1), points.coords[rows, 1:]], 1)
        torch.testing.assert_close(layer(PointTensor(alone, points.feats[rows])).feats, both[rows])


def test_points_that_coincide_get_equal_and_finite_features(device):
    coords = torch.tensor([[0, 2.0, 3, 4]] * 5, device=device)
    points = PointTensor(coords, torch.ones(5, 3, device=device))
    out = spnn.PVConv(3, 4, resolution=8).to(device)(points).feats
    assert out.isfinite().all() and torch.equal(out, out[:1].expand(5, 4))


@pytest.mark.parametrize("batch_size", [None, 3])
def test_no_points(batch_size, device):
    points = PointTensor(torch.zeros(0, 4, device=device), torch.zeros(0, 3, device=device), batch_size)
    layer = spnn.PVConv(3, 4, resolution=8).to(device)
    assert layer(points).feats.shape == (0, 4)
    assert all(buffer.isfinite().all() for buffer in layer.buffers())


def test_half_precision_under_autocast(device):
    points = cloud_of(30, 10, channels=4, dtype=torch.float32, device=device)
    layer = spnn.PVConv(4, 8, resolution=4).to(device)
    exact = layer.eval()(points).feats
    with torch.autocast(device.type, dtype=torch.bfloat16):
        rough = layer(points).feats
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.05)


def test_says_what_is_wrong():
    points = cloud_of(4, channels=3)
    layer = spnn.PVConv(3, 4, resolution=2)
    with pytest.raises(TypeError, match="PVConv: points must be a PointTensor, got Tensor"):
        layer(points.feats)
    with pytest.raises(ValueError, match="PVConv: input must have 3 channels, got 4"):
        layer(cloud_of(4, channels=4))
    with pytest.raises(ValueError, match="PVConv: points must have 3 axes, got 2"):
        layer(PointTensor(torch.zeros(2, 3), torch.zeros(2, 3)))
    with pytest.raises(ValueError, match="PVConv: resolution must be a whole number > 0, got 0"):
        spnn.PVConv(3, 4, resolution=0)
    with pytest.raises(ValueError, match=r"PointTensor: coords must be finite, .* got row 1 = \[0.0, nan"):
        PointTensor(torch.tensor([[0, 1.0, 1, 1], [0, torch.nan, 1, 1]]), torch.zeros(2, 3))
