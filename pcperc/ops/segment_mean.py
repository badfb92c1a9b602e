# SPDX-License-Identifier: Apache-2.0
"""Means of many segments of few rows, such as the points of each voxel."""

import torch
from torch import Tensor

import pcperc.ops._library  # noqa: F401
from pcperc.ops.segment_reduce import Segments, check_rows_of_segments


def segment_mean(feats: Tensor, segments: Segments) -> Tensor:
    """Average the rows of each of many short segments, such as the points of each voxel.

    One thread walks a segment's rows, where ``segment_reduce`` has a block of threads for each segment, which pays from
    some hundred rows on.

    Args:
        feats: (M, C) float64, float32, float16 or bfloat16. Differentiable.
        segments: from :func:`make_segments`, on the device of feats.
    Returns:
        (S, C) in the dtype of feats; 0 in an empty segment. Sums are float32 (float64 for float64), in the order of
        the rows, by parts of 256.
    Raises:
        TypeError: not a tensor, or feats not floating point.
        ValueError: wrong shape or device.
    Deterministic: yes, forward and backward. Differentiable any number of times.
    """
    check_rows_of_segments("segment_mean", feats, segments)
    starts = segments.starts
    return torch.ops.pcperc.segment_mean(feats.contiguous(), segments.order, starts[:-1], starts.diff())


@torch.library.register_fake("pcperc::segment_mean")
def _(feats, order, starts, counts):
    return feats.new_empty(starts.shape[0], feats.shape[1])


@torch.library.register_fake("pcperc::segment_mean_backward")
def _(grad, order, starts, counts, num_rows):
    return grad.new_empty(num_rows, grad.shape[1])


def _setup(ctx, inputs, output):
    feats, *segments = inputs
    ctx.num_rows = feats.shape[0]
    ctx.save_for_backward(*segments[:3])


def _backward(ctx, grad):
    order, starts, counts = ctx.saved_tensors
    feats_grad = torch.ops.pcperc.segment_mean_backward(grad.contiguous(), order, starts, counts, ctx.num_rows)
    return feats_grad, None, None, None


def _backward_backward(ctx, grad):
    return torch.ops.pcperc.segment_mean(grad.contiguous(), *ctx.saved_tensors), None, None, None, None


_register = torch.library.register_autograd
_register("pcperc::segment_mean", _backward, setup_context=_setup)
_register("pcperc::segment_mean_backward", _backward_backward, setup_context=_setup)
