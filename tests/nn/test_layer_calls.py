# SPDX-License-Identifier: Apache-2.0
"""Without gradients, and in a block's training step, layers skip the checks of the public operators: the same results,
and the same messages.
"""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import pcperc.nn as spnn
from tests.models.pvcnn_clouds import cloud_of
from tests.nn.blocks import randomised, voxels

LAYERS = {
    "conv": ("sparse_conv", lambda: spnn.SubMConv3d(4, 4, 3)),
    "strided": ("sparse_conv", lambda: spnn.SparseConv3d(4, 4, 2, 2, bias=False)),
    "fused": ("sparse_conv_fused", lambda: spnn.fuse(block())),
    "norm": ("batch_norm", lambda: spnn.BatchNorm(4)),
}


def block():
    return randomised(spnn.ConvBlock(spnn.SubMConv3d(4, 4, 3), spnn.BatchNorm(4), spnn.ReLU()))


@pytest.fixture(params=LAYERS)
def made(request):
    op, make = LAYERS[request.param]
    return op, randomised(make())


@pytest.fixture(params=[torch.no_grad, torch.inference_mode])
def mode(request):
    return request.param


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_a_dtype_that_does_not_fit_is_named(made, mode, dtype):
    _, layer = made
    name = {torch.float64: "float64", torch.float16: "float16"}[dtype]
    fixes = {"float64": r"x\.double\(\), or layer\.float\(\)", "float16": r"x\.half\(\), or .* torch\.autocast"}[name]
    kind = type(getattr(layer, "conv", layer)).__name__  # of a fused block the layer that it was
    with mode(), pytest.raises(ValueError, match=rf"^{kind}: input must be {name} .*, got float32; use {fixes}$"):
        layer.to(dtype)(voxels())


@pytest.mark.parametrize("where", ["meta", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_layer_on_another_device_is_named(made, mode, where):
    op, layer = made
    with mode(), pytest.raises(ValueError, match=rf"^{op}: \w+ must be on cpu like feats, got {where}"):
        layer.to(where)(voxels())


@pytest.mark.gpu
def test_an_input_on_another_device_is_named(made, mode):
    op, layer = made
    with mode(), pytest.raises(ValueError, match=rf"^{op}: \w+ must be on cuda:0 like feats, got cpu"):
        layer(voxels(device="cuda"))


def left_on_meta(layer, name):
    """A copy as a checkpoint without this key leaves it, that is loaded with assign=True into a layer on meta."""
    layer = copy.deepcopy(layer)
    path, _, last = name.rpartition(".")
    owner, tensor = layer.get_submodule(path), layer.state_dict()[name].to("meta")
    setattr(owner, last, torch.nn.Parameter(tensor) if last in owner._parameters else tensor)
    return layer


def test_each_tensor_that_stayed_on_meta_is_named(made, mode):
    op, layer = made
    for name in [name for name, tensor in layer.state_dict().items() if tensor.ndim > 0]:
        last = name.rpartition(".")[2]
        with mode(), pytest.raises(ValueError, match=rf"^{op}: {last} must be on cpu like feats, got meta"):
            left_on_meta(layer, name)(voxels())


@pytest.mark.parametrize("name", ["conv.bias", "norm.weight", "norm.bias", "norm.running_var"])
def test_each_tensor_that_stayed_on_meta_is_named_in_training(name):
    with pytest.raises(ValueError, match=r"^sparse_conv_norm: \w+ must be on cpu like .*, got meta"):
        left_on_meta(block().train(), name)(voxels())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("name", "number"), [("norm", "eps"), ("fused", "negative_slope")])
def test_a_number_out_of_range_is_named(name, number, value, mode):
    op, make = LAYERS[name]
    layer = randomised(make())
    setattr(layer, number, value)
    with mode(), pytest.raises(ValueError, match=f"^{op}: {number} must be finite.*, got {value}"):
        layer(voxels())


def test_a_residual_of_another_dtype_is_named(mode):
    x = voxels()
    with mode(), pytest.raises(ValueError, match=r"^sparse_conv_fused: residual must .* in the dtype of feats, got"):
        spnn.fuse(block())(x, x.double())


class Failing(TorchDispatchMode):
    """Operators of pcperc fail for a reason of their own; what was asked for is noted."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "pcperc" and ("conv" in func.__name__ or "norm" in func.__name__):
            self.asked.append(func)
            raise RuntimeError("no memory is left")
        return func(*args, **(kwargs or {}))


def test_an_error_of_the_operators_own_stands_and_nothing_is_tried_again(made, mode):
    _, layer = made
    x = voxels()
    layer(x)  # finds the kernel map
    with mode(), Failing() as failing, pytest.raises(RuntimeError, match="no memory is left"):
        layer(x)
    assert len(failing.asked) == 1


def test_rows_of_whole_numbers_are_named(mode):
    norm = spnn.RowBatchNorm(4).eval()
    with mode(), pytest.raises(TypeError, match="batch_norm: feats must have a floating point dtype, got"):
        norm(torch.ones(3, 4, dtype=torch.int64))


def test_results_are_those_with_checks(made, mode, device):
    _, layer = made
    layer, x = layer.to(device).requires_grad_(False), voxels(device=device)
    with mode():
        found = layer(x).feats
    assert torch.equal(found, layer(x).feats)


def test_autocast_is_followed(made, mode, device):
    op, layer = made
    layer, x = layer.to(device).requires_grad_(False), voxels(device=device)
    with torch.autocast(device.type, torch.bfloat16):
        with mode():
            found = layer(x).feats
        assert found.dtype == (torch.float32 if op == "batch_norm" else torch.bfloat16)
        assert torch.equal(found, layer(x).feats)


def wide(block):
    return block.double()


def wide_norm(block):
    block.norm.double()
    return block


def on_meta(block):
    return block.to("meta")


def norm_on_meta(block):
    block.norm.to("meta")
    return block


def with_bad_number(block):
    block.norm.eps = float("nan")
    return block


def without_var(block):
    block.norm.running_var = None
    return block


def without_count(block):
    block.norm.momentum = block.norm.num_batches_tracked = None
    return block


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (on_meta, "weight must be on cpu like feats, got meta"),
        (norm_on_meta, "running_mean must be on cpu like the convolution, got meta"),
        (with_bad_number, "eps must be finite and >= 0, got nan"),
        (without_var, "running_mean and running_var must both be given or both be None, got one of them"),
        (without_count, "num_batches_tracked must be given where momentum is None"),
        pytest.param(
            lambda block: block.cuda(), "weight must be on cpu like feats, got cuda", marks=pytest.mark.gpu, id="cuda"
        ),
    ],
)
@pytest.mark.parametrize("is_recorded", [True, False])
def test_what_does_not_fit_a_training_step_is_named(change, message, is_recorded):
    wrong = change(block().train())
    with torch.set_grad_enabled(is_recorded), pytest.raises(ValueError, match=f"^sparse_conv_norm: {message}"):
        wrong(voxels())


@pytest.mark.parametrize(("change", "name"), [(wide, "SubMConv3d"), (wide_norm, "BatchNorm")])
@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_layer_of_another_dtype_in_a_training_step_is_named(change, name, is_recorded):
    wrong = change(block().train())
    with torch.set_grad_enabled(is_recorded), pytest.raises(ValueError, match=f"^{name}: input must be float64 .* got"):
        wrong(voxels())


@pytest.mark.parametrize(
    "layer",
    [spnn.Linear(4, 4), spnn.PReLU(4), spnn.LayerNorm(4), spnn.SyncBatchNorm(4), spnn.BatchNorm(4, affine=False)],
    ids=lambda layer: type(layer).__name__,
)
def test_a_half_layer_of_torchs_own_arithmetic_is_named(layer):
    name = type(layer).__name__
    with pytest.raises(
        ValueError, match=rf"^{name}: input must be float16 .*, got float32; use x\.half\(\), or a float32"
    ):
        copy.deepcopy(layer).half().eval()(voxels())


@pytest.mark.parametrize("layer", [spnn.Linear(4, 4), spnn.PReLU(4)], ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_rows_that_torchs_own_arithmetic_refuses_are_named(layer, dtype):
    name, got = type(layer).__name__, str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=rf"^{name}: input must be float32 .*, got {got}; use x\.float"):
        layer(voxels().to(dtype))


POINT_LAYERS = {
    "mlp": lambda points: spnn.SharedMLP(4, 8)(points),
    "rows": lambda points: spnn.SharedMLP(4, 8)(points.feats),
    "grid": lambda points: spnn.PVConv(4, 8, resolution=2)(points),
    "up": lambda points: spnn.FeaturePropagation(8, [8])(points, points),
    "down": lambda points: spnn.SetAbstraction(4, [8], num_centers=2, radius=1.0, num_neighbors=2)(points),
}


@pytest.mark.parametrize("run", POINT_LAYERS.values(), ids=POINT_LAYERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_points_of_another_dtype_than_a_perceptron_are_named(run, dtype):
    points = cloud_of(6, channels=4, dtype=torch.float32)
    points, got = points.replace(feats=points.feats.to(dtype)), str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=rf"^SharedMLP: input must be float32 .*, got {got}; use x\.float\(\)"):
        run(points)


def test_another_error_of_a_layer_whose_dtype_fits_stands():
    """Half-precision features before float32 weights, and what autocast casts, are not what is wrong here."""
    conv = spnn.SubMConv3d(4, 4, 3)
    conv.weight = torch.nn.Parameter(torch.zeros(3, 3, 3, 5, 4))
    for x in (voxels(), voxels().half()):
        with pytest.raises(ValueError, match="^sparse_conv: weight must be"):
            conv(x)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="^sparse_conv: weight must be"):
        conv.half()(voxels())


def test_an_error_of_another_kind_in_a_training_step_is_raised_and_nothing_computed_twice():
    """Of a hook that moves what is saved elsewhere, say, and finds no memory there at first."""
    errors, trained = [RuntimeError("no memory")], block().train()

    def pack(tensor):
        if errors:
            raise errors.pop()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with pytest.raises(RuntimeError, match="^no memory$"):
            trained(voxels())
    assert trained.norm.num_batches_tracked == 1
