# SPDX-License-Identifier: Apache-2.0
"""Dense layers that took up their batch norm against both, and which do not."""

import copy

import pytest
import torch
from torch import nn

import pcperc.nn as spnn
from tests.models.pvcnn_clouds import cloud_of
from tests.nn.blocks import randomised
from tests.tolerances import tolerances

ROWS, MAPS, VOLUMES = (7, 4), (2, 4, 5, 3), (2, 4, 3, 5, 2)


def leaky():
    return nn.LeakyReLU(0.1)


FOLDED = {
    "mlp": (lambda: spnn.SharedMLP(4, (8, 6)), ROWS),
    "rows": (lambda: nn.Sequential(nn.Linear(4, 6, bias=False), spnn.RowBatchNorm(6), nn.ReLU()), ROWS),
    "no_activation": (lambda: nn.Sequential(nn.Linear(4, 6), spnn.RowBatchNorm(6), nn.Sigmoid()), ROWS),
    "maps": (lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6, eps=0.1), leaky()), MAPS),
    "volumes": (lambda: nn.Sequential(nn.Conv3d(4, 6, 1), nn.BatchNorm3d(6, affine=False), leaky()), VOLUMES),
}
NOT_FOLDED = {
    "rows_or_sequences": (lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), MAPS[:3]),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 2), nn.BatchNorm2d(6), nn.ReLU()), MAPS),
    "norm_first": (lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1), nn.ReLU()), MAPS),
    "between": (lambda: nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.BatchNorm2d(6)), MAPS),
    "instance_norm": (lambda: nn.Sequential(nn.Conv2d(4, 6, 1), nn.InstanceNorm2d(6)), MAPS),
}


def with_statistics(model, dtype):
    return randomised(model).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("make", "shape"), FOLDED.values(), ids=FOLDED)
def test_folded_equals_unfolded(make, shape, dtype, device):
    model = with_statistics(make(), dtype).to(device)
    state = copy.deepcopy(model.state_dict())
    fused = spnn.fuse(model)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    before = x.clone()
    with torch.no_grad():
        found, expected = fused(x), copy.deepcopy(model).double()(x.double())
    # Each of at most two layers rounds once more, and so do the folded weights.
    torch.testing.assert_close(found.double(), expected, **tolerances(dtype, 3 * 6 * 6))
    assert torch.equal(x, before)
    assert not any("BatchNorm" in type(module).__name__ for module in fused.modules())
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    kinds = (nn.ReLU, nn.LeakyReLU)
    assert all(layer.inplace for layer in fused if isinstance(layer, kinds))
    assert not any(layer.inplace for layer in model if isinstance(layer, kinds))


@pytest.mark.parametrize("norm", [spnn.BatchNorm, spnn.SyncBatchNorm])
def test_layers_of_points(norm):
    model = with_statistics(nn.Sequential(spnn.Linear(5, 6), norm(6), spnn.ReLU()), torch.float64)
    points = cloud_of(6, 3, channels=5)
    before = points.feats.clone()
    fused = spnn.fuse(model)
    torch.testing.assert_close(fused(points).feats, model(points).feats)
    assert torch.equal(points.feats, before) and [type(layer) for layer in fused][1] is nn.Identity


@pytest.mark.parametrize(("make", "shape"), NOT_FOLDED.values(), ids=NOT_FOLDED)
def test_what_is_no_norm_of_the_layers_output_stays(make, shape):
    other = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    model = with_statistics(nn.ModuleDict({"it": make(), "folded": other}), torch.float64)
    fused = spnn.fuse(model)
    assert [type(layer) for layer in fused["it"]] == [type(layer) for layer in model["it"]]
    assert type(fused["folded"][1]) is nn.Identity
    x = torch.randn(shape, dtype=torch.float64)
    assert torch.equal(fused["it"](x), model["it"](x))


@pytest.mark.parametrize("reparametrize", [nn.utils.spectral_norm, nn.utils.parametrizations.weight_norm])
def test_weights_that_are_made_anew_stay(reparametrize):
    model = with_statistics(spnn.SharedMLP(4, (6, 5)), torch.float64)
    reparametrize(model[0])
    model.eval()
    fused = spnn.fuse(model)
    assert [type(layer) for layer in fused][1::3] == [spnn.RowBatchNorm, nn.Identity]
    x = torch.randn(ROWS, dtype=torch.float64)
    torch.testing.assert_close(fused(x), model(x))


@pytest.mark.parametrize("training", [True, False])
def test_a_norm_of_each_batchs_statistics_stays(training):
    own = nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6, track_running_stats=False)).train(training)
    fused = spnn.fuse(nn.ModuleList([own, spnn.SharedMLP(4, 4).eval()]))
    assert [type(layer) for layer in fused[0]] == [nn.Conv2d, nn.BatchNorm2d] and type(fused[1][1]) is nn.Identity
    x = torch.randn(MAPS)
    assert torch.equal(fused[0](x), own(x))


class Halved(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) / 2


def test_a_layer_of_a_users_own_stays():
    model = nn.Sequential(Halved(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)).eval()
    assert [type(layer) for layer in spnn.fuse(model)] == [Halved, nn.BatchNorm2d, nn.Conv2d, nn.Identity]


def test_parts_that_are_shared_are_folded_apart():
    linear, relu = nn.Linear(4, 4), nn.ReLU()
    blocks = [nn.Sequential(linear, spnn.RowBatchNorm(4), relu) for _ in range(2)]
    model = with_statistics(nn.ModuleList([*blocks, nn.Sequential(relu, linear)]), torch.float64)
    fused = spnn.fuse(model)
    x = torch.randn(5, 4, dtype=torch.float64)
    before = x.clone()
    with torch.no_grad():
        for found, expected in zip(fused, model, strict=True):
            torch.testing.assert_close(found(x), expected(x))
    assert torch.equal(x, before)  # the last ReLU's input is the caller's


def test_hooks_of_what_is_folded_are_not_called():
    model = nn.Sequential(nn.Linear(4, 4), spnn.RowBatchNorm(4), nn.ReLU()).eval()
    calls = []
    for layer in list(model)[:2]:
        layer.register_forward_hook(lambda *arguments: calls.append("after"))
        layer.register_forward_pre_hook(lambda *arguments: calls.append("before"))
    spnn.fuse(model)(torch.randn(5, 4))
    assert not calls
    model(torch.randn(5, 4))
    assert len(calls) == 4


def test_says_what_is_wrong():
    def model():
        return nn.ModuleDict({"head": spnn.SharedMLP(4, (4, 4))}).eval()

    training = model()
    training["head"][4].train()
    with pytest.raises(ValueError, match="model must be in eval mode .*, got model.head.3 in training mode"):
        spnn.fuse(training)
    with pytest.raises(ValueError, match="must contain a ConvBlock or a layer with its batch norm, got none in Linear"):
        spnn.fuse(nn.Linear(4, 4))
