# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn.utils.prune import l1_unstructured

from pcperc import nn as spnn
from pcperc.sparse import PointTensor
from tests import oracles_pvcnn
from tests.models.pvcnn_clouds import arrays, cloud_of, randomize, state_of

BALLS = {"num_centers": 6, "radius": 0.9, "num_neighbors": 4}


def state_as(layer, key="x"):
    return {f"{key}.{name}": value for name, value in state_of(layer).items()}


def assert_equals(result, expected):
    for found, wanted in zip(arrays(result), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(wanted), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
def test_set_abstraction_equals_the_formulas(training, device):
    points = cloud_of(30, 0, 3, channels=5, device=device)
    layer = randomize(spnn.SetAbstraction(5, (8, 4), **BALLS)).train(training).to(device)
    options = dict(batch_size=3, training=training, **BALLS)
    expected = oracles_pvcnn.set_abstraction(state_as(layer), "x", *arrays(points), **options)
    assert len(expected[0]) == 6 + 3
    assert_equals(layer(points), expected)


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
def test_global_abstraction_equals_the_formulas(training, device):
    points = cloud_of(10, 0, 3, channels=5, device=device)
    layer = randomize(spnn.GlobalAbstraction(5, (8, 4))).train(training).to(device)
    options = dict(batch_size=3, training=training)
    assert_equals(layer(points), oracles_pvcnn.global_abstraction(state_as(layer), "x", *arrays(points), **options))


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
def test_feature_propagation_equals_the_formulas(training, device):
    centers, points = cloud_of(5, 0, 2, channels=5, device=device), cloud_of(9, 4, 4, channels=3, seed=1, device=device)
    layer = randomize(spnn.FeaturePropagation(8, (8, 4))).train(training).to(device)
    options = dict(batch_size=3, training=training)
    expected = oracles_pvcnn.propagate(state_as(layer), "x", arrays(centers), arrays(points), **options)
    assert_equals(layer(centers, points), (*arrays(points)[:2], expected))


def prune(linear):
    l1_unstructured(linear, "weight", amount=0.5)


def double_input(linear):
    linear.register_forward_pre_hook(lambda layer, args: (2 * args[0],))


@pytest.mark.parametrize("change", [prune, torch.nn.utils.spectral_norm, double_input])
def test_feature_propagation_calls_a_first_layer_that_does_more(change):
    centers, points = cloud_of(5, 2, channels=5), cloud_of(9, 4, channels=3, seed=1)
    layer = randomize(spnn.FeaturePropagation(8, (8, 4)))
    change(layer.mlp[0])
    layer.eval()
    inputs = []
    handle = layer.mlp.register_forward_pre_hook(lambda mlp, args: inputs.append(args[0]))
    expected = layer(centers, points).feats
    handle.remove()
    torch.testing.assert_close(expected, layer.mlp(inputs[0]))
    torch.testing.assert_close(layer(centers, points).feats, expected)
    if hasattr(layer.mlp[0], "weight_orig"):  # the hook makes the weight from it
        layer.mlp[0].weight_orig.data.copy_(torch.randn(8, 8, generator=torch.Generator().manual_seed(3)))
        torch.testing.assert_close(layer(centers, points).feats, layer.mlp(inputs[0]))


def test_feature_propagation_without_layers_puts_features_side_by_side():
    points = cloud_of(9, 4, channels=3)
    feats = spnn.FeaturePropagation(6, [])(points, points).feats  # a point is its own nearest
    torch.testing.assert_close(feats, torch.cat([points.feats, points.feats], 1), rtol=1e-4, atol=1e-4)


def test_feature_propagation_promotes_features_of_two_dtypes():
    centers, points = cloud_of(5, 2, channels=5), cloud_of(9, 4, channels=3, seed=1)
    layer = randomize(spnn.FeaturePropagation(8, (4,))).eval()
    narrow = points.replace(feats=points.feats.float())
    widened = points.replace(feats=narrow.feats.double())
    torch.testing.assert_close(layer(centers, narrow).feats, layer(centers, widened).feats)


def test_gradients(device):
    points = cloud_of(8, 3, channels=3, device=device)
    down = randomize(spnn.SetAbstraction(3, (4,), **BALLS)).to(device)
    up = randomize(spnn.FeaturePropagation(7, (2,))).to(device)

    def run(feats):
        x = points.replace(feats=feats)
        return up(down(x), x).feats

    assert torch.autograd.gradcheck(run, [points.feats.requires_grad_()], nondet_tol=0.0)


def test_no_points(device):
    points = PointTensor(torch.zeros(0, 4, device=device), torch.zeros(0, 3, device=device), 2)
    centers = spnn.SetAbstraction(3, (4,), **BALLS).to(device)(points)
    assert centers.feats.shape == (0, 4)
    assert spnn.FeaturePropagation(7, (5,)).to(device)(centers, points).feats.shape == (0, 5)
    assert spnn.GlobalAbstraction(3, (4,)).to(device)(points).feats.tolist() == [[0] * 4] * 2


def test_says_what_is_wrong():
    points = cloud_of(4, channels=3)
    with pytest.raises(TypeError, match="SetAbstraction: points must be a PointTensor, got Tensor"):
        spnn.SetAbstraction(3, (4,), **BALLS)(points.feats)
    with pytest.raises(ValueError, match="SetAbstraction: input must have 5 channels, got 3"):
        spnn.SetAbstraction(5, (4,), **BALLS)(points)
    with pytest.raises(ValueError, match="SetAbstraction: radius must be > 0, got -1"):
        spnn.SetAbstraction(3, (4,), **(BALLS | {"radius": -1}))
    with pytest.raises(ValueError, match="SetAbstraction: num_centers must be a whole number > 0, got 0"):
        spnn.SetAbstraction(3, (4,), **(BALLS | {"num_centers": 0}))
    with pytest.raises(ValueError, match="queries must have as many clouds as points, 2, got 1"):
        spnn.FeaturePropagation(6, (4,))(cloud_of(2, 2, channels=3), points)
    with pytest.raises(ValueError, match=r"SharedMLP: input must be \(rows, 5\), got \(4, 6\)"):
        spnn.FeaturePropagation(5, (4,)).double()(points, points)
