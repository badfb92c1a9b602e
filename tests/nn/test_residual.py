# SPDX-License-Identifier: Apache-2.0
"""Blocks against their formula in plain torch, and fused blocks against unfused ones."""

import copy

import pytest
import torch
import torch.nn.functional as F

import pcperc.nn as spnn
from pcperc import SparseTensor
from pcperc.nn.residual import norm_and_activation
from tests.nn.test_conv import dense_weight, sparse_grid
from tests.ops.clouds import coords_of, random_coords
from tests.tolerances import tolerances


def voxels(channels=4, count=120, dtype=torch.float32, device="cpu"):
    coords = random_coords(count)
    return SparseTensor(coords.to(device), torch.randn(len(coords), channels, dtype=dtype, device=device), 2)


def randomised(module):
    """Give batch norms statistics and factors that do something."""
    for norm in module.modules():
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
            for values in (norm.running_mean, norm.weight, norm.bias):
                if values is not None:
                    torch.nn.init.normal_(values)
            norm.running_var.uniform_(0.5, 2)
    return module.eval()


def batch_norm(norm, feats):
    return F.batch_norm(feats, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0, norm.eps)


@pytest.mark.parametrize("out_channels", [3, 5])
def test_residual_block_is_its_formula_on_a_dense_grid(out_channels, device):
    x = sparse_grid(device=device)
    block = randomised(spnn.ResidualBlock(3, out_channels).double().to(device))
    b, i, j, k = x.coords.long().unbind(1)

    def conv_norm(layer, feats, padding):
        grid = F.conv3d(x.replace(feats=feats).dense(), dense_weight(layer.conv), padding=padding)
        return batch_norm(layer.norm, grid[b, :, i, j, k])

    shortcut = x.feats if out_channels == 3 else conv_norm(block.shortcut, x.feats, 0)
    expected = (conv_norm(block.block2, conv_norm(block.block1, x.feats, 1).relu(), 1) + shortcut).relu()
    torch.testing.assert_close(block(x).feats, expected)


BLOCKS = {
    "relu": lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 6, 3, bias=False), spnn.BatchNorm(6), spnn.ReLU()),
    "conv_bias": lambda: spnn.ConvBlock(spnn.SparseConv3d(4, 6, 2, 2), spnn.BatchNorm(6), spnn.ReLU()),
    "leaky": lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 6, 3), spnn.BatchNorm(6), spnn.LeakyReLU(0.2)),
    "other_activation": lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 6, 3), spnn.BatchNorm(6), spnn.GELU()),
    "no_norm": lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 6, 3), None, spnn.ReLU()),
    "no_activation": lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 6, 3), spnn.BatchNorm(6)),
    "plain_norm": lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 6, 3, bias=False), spnn.BatchNorm(6, affine=False)),
    "residual": lambda: spnn.ResidualBlock(4, 4),
    "projection": lambda: spnn.ResidualBlock(4, 6),
    "sequential": lambda: torch.nn.Sequential(
        spnn.SubMConv3d(4, 6, 3, bias=False),
        spnn.BatchNorm(6),
        spnn.ReLU(),
        spnn.SparseConv3d(6, 4, 2, 2),
        spnn.LeakyReLU(0.2),
    ),
    "nested": lambda: torch.nn.Sequential(
        spnn.ConvBlock(spnn.SubMConv3d(4, 6, 3), spnn.BatchNorm(6), spnn.ReLU()), spnn.BatchNorm(6), spnn.Linear(6, 2)
    ),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("make", BLOCKS.values(), ids=BLOCKS)
def test_fused_equals_unfused(make, dtype, device):
    exact = randomised(make()).double().to(device)
    x = voxels(dtype=dtype, device=device)
    model = copy.deepcopy(exact).to(dtype)
    before = copy.deepcopy(model.state_dict())
    fused = spnn.fuse(model)
    expected = copy.deepcopy(model).double()(x.replace(feats=x.feats.double())).feats
    # Two convolutions of 108 terms each; the fold rounds the weights once more.
    torch.testing.assert_close(fused(x).feats.double(), expected, **tolerances(dtype, 27 * 6 * 4))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(isinstance(module, spnn.ConvBlock) for module in fused.modules())
    assert not fused.training and not any(p.requires_grad for n, p in fused.named_parameters() if ".conv." in n)


def in_two_steps(block, x, residual=None):
    return norm_and_activation(block.conv(x), block.norm, block.activation, residual)


def results_of_training(block, compute, x, residual=None):
    """Output, gradients and recorded statistics of a step of a copy of the block."""
    block = copy.deepcopy(block)
    inputs = [each.replace(feats=each.feats.clone().requires_grad_()) for each in (x, residual) if each is not None]
    out = compute(block, *inputs).feats
    upstream = torch.linspace(-1, 1, out.numel(), device=out.device, dtype=out.dtype).view(out.shape)
    leaves = [each.feats for each in inputs] + list(block.parameters())
    return out, *torch.autograd.grad(out, leaves, upstream), *block.buffers()


SMALL_BLOCKS = [name for name in BLOCKS if type(BLOCKS[name]()) is spnn.ConvBlock]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("name", [*SMALL_BLOCKS, "momentum_none", "not_tracked"])
def test_a_training_step_is_that_of_the_parts(name, with_residual, autocast, device):
    block = BLOCKS["relu" if name not in BLOCKS else name]()
    if name == "momentum_none":
        block.norm.momentum = None
    if name == "not_tracked":
        block.norm.track_running_stats = False
    block, x = block.to(device).train(), voxels(device=device)
    residual = None
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        if with_residual:
            residual = block.conv(x)
            residual = residual.replace(feats=torch.randn_like(residual.feats))
        found = [results_of_training(block, compute, x, residual) for compute in (in_two_steps, type(block).__call__)]
    for expected, got in zip(*found, strict=True):
        assert got.dtype == expected.dtype and torch.equal(got, expected)


def test_a_residual_of_another_type_is_added_as_before():
    block, x = BLOCKS["relu"]().train(), voxels()
    residual = x.replace(feats=torch.randn(len(x), 6))
    with torch.autocast("cpu", torch.bfloat16):
        out = block(x, residual)
        assert torch.equal(out.feats, in_two_steps(copy.deepcopy(block), x, residual).feats)
    assert out.dtype == torch.float32


def test_one_voxel_in_training_takes_the_running_statistics():
    block = BLOCKS["relu"]().train()
    x = SparseTensor(coords_of((0, 0, 0, 0)), torch.randn(1, 4))
    before = copy.deepcopy(block.state_dict())
    assert torch.equal(block(x).feats, block.eval()(x).feats)
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


class Doubled(spnn.SubMConv3d):
    """A convolution of a user's own that is one by descent alone."""

    def forward(self, x):
        y = super().forward(x)
        return y.replace(feats=2 * y.feats)


class DoubledInside(spnn.SubMConv3d):
    """The same by another step of the layer."""

    def _convolve(self, x, kernel_map):
        y = super()._convolve(x, kernel_map)
        return y.replace(feats=2 * y.feats)


@pytest.mark.parametrize("doubled", [Doubled, DoubledInside])
def test_parts_of_a_users_own_and_hooks_are_called_in_training(doubled):
    block = spnn.ConvBlock(doubled(4, 6, 3), spnn.BatchNorm(6), spnn.ReLU()).train()
    plain = copy.deepcopy(block)
    plain.conv = spnn.SubMConv3d(4, 6, 3)
    plain.conv.load_state_dict(block.conv.state_dict())
    x = voxels()
    block(x), plain(x)
    torch.testing.assert_close(block.norm.running_mean, 2 * plain.norm.running_mean)
    for part in (plain.conv, plain.norm, plain.activation):
        called = []
        handle = part.register_forward_hook(lambda *_, called=called: called.append(1))
        plain(x)
        handle.remove()
        assert called == [1]


def test_hooks_of_all_modules_see_the_convolution_in_training():
    block, x, seen = BLOCKS["relu"]().train(), voxels(), []
    handle = torch.nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(module))
    block(x)
    handle.remove()
    assert block.conv in seen


def test_a_norm_of_other_channels_is_named_in_training():
    block = spnn.ConvBlock(spnn.SubMConv3d(4, 6, 3), spnn.BatchNorm(5), spnn.ReLU()).train()
    with pytest.raises(ValueError, match="BatchNorm: input must have 5 channels, got 6"):
        block(voxels())


def test_a_block_used_twice_is_fused_once():
    block = randomised(spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3), spnn.BatchNorm(4), spnn.ReLU()))
    model = torch.nn.Sequential(block, block).eval()
    fused = spnn.fuse(model)
    assert fused[0] is fused[1]
    x = voxels()
    torch.testing.assert_close(fused(x).feats, model(x).feats, **tolerances(torch.float32, 500))


class Twice(torch.nn.Sequential):
    def forward(self, x):
        return super().forward(super().forward(x))


def test_layers_behind_each_other_are_a_block_where_nothing_stands_between():
    def conv():
        return spnn.SubMConv3d(4, 4, 3)

    layers = (
        *(conv(), spnn.BatchNorm(4), spnn.GELU()),
        *(conv(), spnn.GroupNorm(2, 4), spnn.ReLU()),
        *(spnn.BatchNorm(4), conv()),
        Twice(conv(), spnn.BatchNorm(4)),
        *(conv(), spnn.SyncBatchNorm(4), spnn.ReLU()),
    )
    model = randomised(torch.nn.Sequential(*layers))
    fused = spnn.fuse(model)
    kinds = [type(layer).__name__ for layer in fused]
    assert kinds[:3] == ["FusedConvBlock", "Identity", "GELU"]
    assert kinds[3:8] == ["SubMConv3d", "GroupNorm", "ReLU", "BatchNorm", "SubMConv3d"]
    assert [type(layer).__name__ for layer in fused[8]] == ["SubMConv3d", "BatchNorm"]
    assert kinds[9:] == ["FusedConvBlock", "Identity", "Identity"]
    assert [type(layer) for layer in model] == [type(layer) for layer in layers]
    x = voxels()
    with torch.no_grad():
        torch.testing.assert_close(fused(x).feats, model(x).feats, **tolerances(torch.float32, 500))
    with pytest.raises(ValueError, match="fuse: model must be in eval mode .*, got model.0 in training mode"):
        spnn.fuse(model.train())


def test_what_cannot_be_fused_is_named_from_the_model_down():
    def layers():
        return [spnn.SubMConv3d(4, 4, 3), spnn.BatchNorm(4), spnn.ReLU()]

    inner = torch.nn.Sequential(torch.nn.Sequential(*layers()), torch.nn.Sequential(*layers()))
    model = torch.nn.ModuleDict({"encoder": inner}).eval()
    inner[1][0].backend = "spconv"
    with pytest.raises(ValueError, match="fuse: conv of model.encoder.1.0 must have backend None, got 'spconv'"):
        spnn.fuse(model)
    with pytest.raises(ValueError, match="fuse: conv of model.1.0 must have"):
        spnn.fuse(inner)


def test_blocks_that_share_a_convolution_are_fused_apart():
    conv = spnn.SubMConv3d(4, 4, 3)
    blocks = (spnn.ConvBlock(conv, spnn.BatchNorm(4), spnn.ReLU()), spnn.ConvBlock(conv, spnn.BatchNorm(4)))
    model = randomised(torch.nn.Sequential(*blocks, conv))
    x = voxels()
    torch.testing.assert_close(spnn.fuse(model)(x).feats, model(x).feats, **tolerances(torch.float32, 500))


class Clipped(spnn.ReLU):
    """An activation of a user's own that is a ReLU by descent alone."""

    def forward(self, x):
        return x.replace(feats=x.feats.clamp(0, 0.1))


def test_an_activation_derived_from_relu_is_called():
    model = randomised(spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3), spnn.BatchNorm(4), Clipped()))
    x = voxels()
    torch.testing.assert_close(spnn.fuse(model)(x).feats, model(x).feats)
    assert model(x).feats.max() == 0.1


def test_a_fused_block_refuses_to_learn():
    fused = spnn.fuse(randomised(spnn.ResidualBlock(4, 4)))
    x = voxels()
    x.feats.requires_grad_()
    with pytest.raises(ValueError, match="gradient"):
        fused(x)
    with torch.no_grad():
        assert fused(x).feats.shape == x.feats.shape


def in_training():
    model = torch.nn.Sequential(spnn.ResidualBlock(4, 4)).eval()
    model[0].block2.norm.train()
    return model


def of_another_library():
    block = spnn.ResidualBlock(4, 4).eval()
    block.block1.conv.backend = "spconv"
    return block


def with_weight_norm():
    conv = torch.nn.utils.parametrizations.weight_norm(spnn.SubMConv3d(4, 4, 3), dim=4)
    return spnn.ConvBlock(conv, spnn.BatchNorm(4)).eval()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: spnn.fuse(with_weight_norm()), ValueError, "conv of model must have plain weights, got parametrized"),
        (lambda: spnn.fuse(in_training()), ValueError, r"model.eval\(\)\), got model.0.block2 in training mode"),
        (lambda: spnn.fuse(torch.nn.Linear(2, 2)), ValueError, "model must contain a ConvBlock, got none in Linear"),
        (lambda: spnn.fuse(of_another_library()), ValueError,
         "conv of model.block1 must have backend None, got 'spconv'"),
        (lambda: spnn.fuse(spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3), spnn.GroupNorm(2, 4)).eval()), TypeError,
         "fuse: norm of model must be BatchNorm, SyncBatchNorm or None, got GroupNorm"),
        (lambda: spnn.fuse(spnn.ConvBlock(
            spnn.SubMConv3d(4, 4, 3), spnn.BatchNorm(4, track_running_stats=False)).eval()), ValueError,
         "must keep running statistics"),
        (lambda: spnn.fuse("model"), TypeError, "fuse: model must be a module, got str"),
        (lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3), spnn.ReLU), TypeError,
         "ConvBlock: norm must be a module or None, got type"),
        (lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3), None, torch.relu), TypeError,
         "ConvBlock: activation must be a module or None"),
        (lambda: spnn.ResidualBlock(4, 4, dims=5), ValueError, "ResidualBlock: dims must be 1, 2, 3 or 4, got 5"),
        (lambda: spnn.ResidualBlock(4, 4, dims=[3]), TypeError, "ResidualBlock: dims must be a whole number > 0"),
        (lambda: spnn.ConvBlock(torch.nn.Linear(4, 4)), TypeError, "conv must be a sparse convolution .* got Linear"),
        (lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3))(voxels(), voxels().feats), TypeError,
         "ConvBlock: residual must be a SparseTensor, got Tensor"),
        (lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3))(voxels(), voxels(channels=1)), ValueError,
         "ConvBlock: residual must have 4 channels, got 1"),
        (lambda: spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3))(
            voxels(), SparseTensor(coords_of((0, 0, 0, 0)), torch.ones(1, 4))), ValueError,
         "ConvBlock: both must have the same voxels in the same order, got batch_size 2 and 1; a residual is added"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
