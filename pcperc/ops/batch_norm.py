# SPDX-License-Identifier: Apache-2.0
"""Batch norm with what follows it, a residual and a (leaky) ReLU, in one pass each way."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops._checks import (
    check_fake_devices,
    check_float_matrix,
    check_same_device,
    check_tensor,
    describe,
    plain,
    sum_dtype,
)


def batch_norm(
    feats: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    *,
    training: bool = False,
    num_batches_tracked: Tensor | None = None,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    negative_slope: float = 1.0,
) -> Tensor:
    """Normalise each channel over the rows, add a residual and apply a (leaky) ReLU.

    ``out = act((feats - mean) / sqrt(var + eps) * weight + bias + residual)`` where act(x) is x for x > 0 and
    ``negative_slope * x`` elsewhere. Sums are float32 (float64 for float64), a half-precision result is rounded once.

    Args:
        feats: (M, C) float64, float32, float16 or bfloat16. Differentiable.
        running_mean, running_var: (C,) in the dtype of feats or float32. In training they are moved towards the
            statistics of feats, with the unbiased variance, and may both be None; else they are the statistics.
        weight, bias: (C,) likewise, or None: 1 and 0. Differentiable.
        residual: (M, C) in the dtype of feats, or None. Differentiable.
        training: take the statistics of feats; M is then 2 or more.
        num_batches_tracked: one int64, counted up in training, or None.
        momentum: weight of feats in the running statistics, in [0, 1]; None is the plain average over
            ``num_batches_tracked``.
        eps: added to the variance; a finite number >= 0.
        negative_slope: 1 is no activation, 0 is ReLU; a finite number >= 0.
    Returns:
        (M, C) in the dtype of feats.
    Raises:
        TypeError: not a tensor, or feats not floating point; momentum, eps or negative_slope not a number.
        ValueError: wrong shape, dtype, device or number; M < 2 in training; no statistics, or one of the two.
    Source: Ioffe and Szegedy, "Batch Normalization", ICML 2015, algorithm 1.
    Deterministic: yes, forward and backward. On the CPU results, and in training gradients, have the same bits for
    every number of threads; the gradients of weight and bias outside training, and gradients of gradients, are sums by
    torch, whose last bits depend on it. Twice differentiable.
    """
    op = "batch_norm"
    check_float_matrix(op, "feats", feats, columns="(M, C)", least=0)
    running = running_mean, running_var, num_batches_tracked, momentum
    affine = {"weight": weight, "bias": bias}
    check_batch_norm(op, "feats", feats, running, affine, residual, training, eps, negative_slope)
    if training:
        return _BatchNorm.apply(feats, residual, weight, bias, running, eps, negative_slope)
    if running_mean is None:
        raise ValueError(f"{op}: running_mean and running_var must be given outside training, got None")
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (feats, weight, bias, residual)):
        return _with_given_statistics(feats, running_mean, running_var, weight, bias, residual, eps, negative_slope)
    statistics = running_mean, running_var, weight, bias
    return torch.ops.pcperc.batch_norm_inference(feats, residual, *statistics, eps, negative_slope)


def check_batch_norm(
    op: str,
    name: str,
    feats: Tensor,
    running: tuple[Tensor | None, Tensor | None, Tensor | None, float | None],
    affine: dict[str, Tensor | None],
    residual: Tensor | None,
    training: bool,
    eps: float,
    negative_slope: float,
) -> None:
    """Check all but feats, which messages call ``name``.

    ``running`` are running_mean, running_var, num_batches_tracked and momentum, ``affine`` weight and bias by name.
    """
    running_mean, running_var, num_batches_tracked, momentum = running
    _check_parameters(op, name, feats, {"running_mean": running_mean, "running_var": running_var, **affine})
    if residual is not None:
        check_tensor(op, "residual", residual)
        if residual.shape != feats.shape or residual.dtype != feats.dtype or residual.device != feats.device:
            raise ValueError(f"{op}: residual must be like {name}, {describe(feats)}, got {describe(residual)}")
    if not are_plain_numbers(momentum, eps, negative_slope):
        _check_numbers(op, momentum, eps=eps, negative_slope=negative_slope)
    if (running_mean is None) != (running_var is None):
        raise ValueError(f"{op}: running_mean and running_var must both be given or both be None, got one of them")
    if training:
        if feats.shape[0] < 2:
            raise ValueError(f"{op}: {name} must have at least 2 rows in training, got {describe(feats)}")
        if momentum is None and num_batches_tracked is None and running_mean is not None:
            raise ValueError(f"{op}: num_batches_tracked must be given where momentum is None")


def _check_parameters(op: str, feats_name: str, feats: Tensor, parameters: dict[str, Tensor | None]) -> None:
    shape, device = feats.shape[1:], feats.device
    dtypes = (feats.dtype,) if feats.dtype == torch.float64 else (feats.dtype, torch.float32)
    for name, tensor in parameters.items():
        if tensor is None:
            continue
        check_tensor(op, name, tensor)
        if tensor.shape != shape or tensor.dtype not in dtypes:
            form = f"({feats.shape[1]},) in the dtype of {feats_name} or float32, {describe(feats)}"
            raise ValueError(f"{op}: {name} must be {form}, got {describe(tensor)}")
        if tensor.device != device:
            check_same_device(op, **{feats_name: feats, name: tensor})


def are_plain_numbers(momentum: float | None, eps: float, negative_slope: float) -> bool:
    """Whether they are floats in range, in one expression: a network asks it of every layer."""
    return (
        type(eps) is type(negative_slope) is float
        and (momentum is None or (type(momentum) is float and 0 <= momentum <= 1))
        and (0 <= eps < math.inf and 0 <= negative_slope < math.inf)
    )


def _check_numbers(op: str, momentum: float | None, **others: float) -> None:
    numbers = others if momentum is None else {"momentum": momentum, **others}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(plain(value), int | float | torch.SymInt | torch.SymFloat):
            raise TypeError(f"{op}: {name} must be a number, got {describe(value)}")
        if name == "momentum" and not 0 <= value <= 1:
            raise ValueError(f"{op}: momentum must be in [0, 1] or None, got {value}")
        if not 0 <= value < math.inf:
            raise ValueError(f"{op}: {name} must be finite and >= 0, got {value}")


def _with_given_statistics(feats, mean, var, weight, bias, residual, eps, negative_slope) -> Tensor:
    """The formula in torch's operators, for gradients along given statistics."""
    out = F.batch_norm(feats, mean, var, weight, bias, False, 0.0, eps)
    if residual is not None:
        out = out + residual
    return out if negative_slope == 1 else F.leaky_relu(out, negative_slope)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, feats, residual, weight, bias, running, eps, negative_slope):
        out, *saved = normalise(feats, residual, weight, bias, running, eps, negative_slope)
        ctx.save_for_backward(*saved)
        ctx.eps, ctx.negative_slope = eps, negative_slope
        return out

    @staticmethod
    def backward(ctx, grad):
        needs = ctx.needs_input_grad[1:4]
        return *norm_gradients(grad, ctx.saved_tensors, needs, ctx.eps, ctx.negative_slope), None, None, None


def normalise(feats, residual, weight, bias, running, eps, negative_slope) -> tuple[Tensor | None, ...]:
    """The result in training, and the tensors that gradients need; ``running`` as in ``check_batch_norm``."""
    *statistics, momentum = running
    arguments = residual, weight, bias, *statistics, -1.0 if momentum is None else momentum, eps, negative_slope
    out, mean, invstd = torch.ops.pcperc.batch_norm_train(feats, *arguments)
    return out, feats, None if negative_slope == 1 else out, mean, invstd, weight


def norm_gradients(grad, saved, needs, eps, negative_slope) -> tuple[Tensor | None, ...]:
    """The gradients of feats, and of residual, weight and bias where needed; torch casts them to their dtypes."""
    feats, out, mean, invstd, weight = saved
    needs_residual, needs_weight, needs_bias = needs
    if torch.is_grad_enabled():  # a gradient of this gradient is wanted
        found = _differentiable_backward(grad, feats, out, weight, eps, negative_slope)
    else:
        with_residual = out is not None and needs_residual
        found = torch.ops.pcperc.batch_norm_backward(grad, *saved, with_residual, negative_slope)
    grad_feats, grad_residual, grad_weight, grad_bias = found
    return (
        grad_feats,
        (grad if out is None else grad_residual) if needs_residual else None,
        grad_weight if needs_weight else None,
        grad_bias if needs_bias else None,
    )


def _differentiable_backward(grad, feats, out, weight, eps, negative_slope) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients by their formula (Ioffe and Szegedy, section 3) in torch's operators."""
    wide = sum_dtype(feats.dtype)
    if out is not None:
        grad = torch.where(out > 0, grad, grad * negative_slope)
    values, above = feats.to(wide), grad.to(wide)
    centred = values - values.mean(0)
    invstd = (centred.square().mean(0) + eps).rsqrt()
    normal = centred * invstd
    grad_bias, grad_weight = above.sum(0), (above * normal).sum(0)
    scale = invstd if weight is None else invstd * weight.to(wide)
    grad_feats = scale * (above - grad_bias / len(feats) - normal * (grad_weight / len(feats)))
    return grad_feats.to(feats.dtype), grad, grad_weight, grad_bias


@torch.library.register_fake("pcperc::batch_norm_train")
def _(feats, residual, weight, bias, running_mean, running_var, num_batches_tracked, momentum, eps, negative_slope):
    check_fake_devices(
        "batch_norm_train", feats, residual, weight, bias, running_mean, running_var, num_batches_tracked
    )
    statistics = feats.new_empty(feats.shape[1], dtype=sum_dtype(feats.dtype))
    return feats.new_empty(feats.shape), statistics, torch.empty_like(statistics)


@torch.library.register_fake("pcperc::batch_norm_inference")
def _(feats, residual, mean, var, weight, bias, eps, negative_slope):
    check_fake_devices("batch_norm_inference", feats, residual, mean, var, weight, bias)
    return feats.new_empty(feats.shape)


@torch.library.register_fake("pcperc::batch_norm_backward")
def _(grad, feats, out, mean, invstd, weight, with_residual, negative_slope):
    check_fake_devices("batch_norm_backward", grad, feats, out, mean, invstd, weight)
    grad_residual = feats.new_empty((feats.shape[0] if with_residual else 0, feats.shape[1]))
    return feats.new_empty(feats.shape), grad_residual, torch.empty_like(mean), torch.empty_like(mean)
