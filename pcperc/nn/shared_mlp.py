# SPDX-License-Identifier: Apache-2.0
"""The perceptron that networks of points apply to each point alone."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pcperc.nn._checks import check_dtype, has_hooks
from pcperc.nn.norm import RowBatchNorm
from pcperc.ops._checks import describe, plain, positive_int
from pcperc.sparse import PointTensor

PointsOrRows = TypeVar("PointsOrRows", PointTensor, Tensor)

# What a table of many rows may take in inference where its maximum alone is wanted. Smaller tables take less memory
# beside the network's narrow ones, larger ones fewer launches, which cost a CPU nothing.
MAX_TABLE_BYTES = 2**26
MAX_TABLE_BYTES_ON_CPU = 2**24


class SharedMLP(nn.Sequential):
    """Linear, batch norm and ReLU for each number of ``channels``, on every row alone.

    Args:
        in_channels: channels of the input, >= 1.
        channels: those of each layer; one number for one layer.
        device, dtype: of the parameters, as in torch's layers.
    Shape: (rows, in_channels) features, or a PointTensor of such, to the same with (rows, channels[-1]). Fewer than two
        rows are normalised by the running statistics in training too, as in ``BatchNorm``.
    Raises:
        TypeError, ValueError: not whole numbers > 0; an input with other channels, or in another dtype.
    Source: Qi, Su, Mo and Guibas, "PointNet", CVPR 2017, section 4.2; there it is a convolution of kernel size 1.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int | Sequence[int],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        channels = plain(channels)
        sizes = [in_channels, *(channels if isinstance(channels, Sequence) else [channels])]
        sizes = [positive_int("SharedMLP", "channels", size) for size in sizes]
        layers = []
        for before, after in zip(sizes[:-1], sizes[1:], strict=True):
            linear = nn.Linear(before, after, device=device, dtype=dtype)
            layers += [linear, RowBatchNorm(after, device=device, dtype=dtype), nn.ReLU()]
        super().__init__(*layers)
        self.in_channels, self.out_channels, self.max_channels = sizes[0], sizes[-1], max(sizes)

    def forward(self, x: PointsOrRows) -> PointsOrRows:
        feats = x.feats if isinstance(x, PointTensor) else x
        if not isinstance(feats, Tensor) or feats.dim() != 2 or feats.shape[1] != self.in_channels:
            raise ValueError(f"SharedMLP: input must be (rows, {self.in_channels}), got {describe(feats)}")
        try:
            out = super().forward(feats)
        except RuntimeError:
            check_dtype(self, feats)
            raise
        return x.replace(feats=out) if isinstance(x, PointTensor) else out


def rows_at_once(layers: Sequence[SharedMLP], num_rows: int, feats: Tensor) -> int | None:
    """Return how many of so many rows like ``feats`` to pass through layers at once, as ``MAX_TABLE_BYTES`` allows.

    None is all of them: because they are few, there is no layer, or as :func:`pass_in_parts` says.
    """
    if not layers or not pass_in_parts(layers):
        return None
    limit = min(MAX_TABLE_BYTES, MAX_TABLE_BYTES_ON_CPU) if feats.device.type == "cpu" else MAX_TABLE_BYTES
    count = max(limit // (max(layer.max_channels for layer in layers) * feats.dtype.itemsize), 1)
    return count if count < num_rows else None


def pass_in_parts(layers: Iterable[nn.Module]) -> bool:
    """Return whether what is large may pass layers part by part, as far as they treat each row, or cloud, alone.

    Not where a gradient is wanted, which needs what is large; a norm takes its statistics from the input; a layer or a
    part of it has hooks, which would get parts; nor under torch.compile, which knows no sizes. A product of other rows
    may differ in its last bits.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    modules = [module for layer in layers for module in layer.modules()]
    return not any(_looks_at_rows(module) or has_hooks(module) for module in modules)


def _looks_at_rows(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and (layer.training or layer.running_mean is None)
