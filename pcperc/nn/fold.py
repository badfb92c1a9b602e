# SPDX-License-Identifier: Apache-2.0
"""Batch norm folded into the weights in front of it."""

import copy

import torch
from torch import nn

from pcperc.nn.activation import LeakyReLU, Linear, ReLU
from pcperc.nn.norm import BatchNorm, RowBatchNorm
from pcperc.nn.sync_norm import SyncBatchNorm

# Layers of torch and the norms of their output channels. After a Linear torch's BatchNorm1d is none of those: of
# (B, L, C) it normalises L.
_NORMS = {
    nn.Linear: (RowBatchNorm,),
    Linear: (BatchNorm, SyncBatchNorm),
    nn.Conv2d: (nn.BatchNorm2d,),
    nn.Conv3d: (nn.BatchNorm3d,),
}
RECTIFIERS = (ReLU, LeakyReLU, nn.ReLU, nn.LeakyReLU)


def takes_up(layer: nn.Module, norm: nn.Module) -> bool:
    """Whether the weights of a dense layer can take up the norm behind it.

    A subclass may compute something else, a weight may be made by a hook, and a norm without running statistics take
    those of each batch.
    """
    is_plain = type(norm) in _NORMS.get(type(layer), ()) and "weight" in layer._parameters
    return is_plain and norm.running_mean is not None


class NormedLayer(nn.Module):
    """A dense layer and its batch norm, for as long as it takes to fold the one into the other."""

    def __init__(self, layer: nn.Module, norm: nn.Module):
        super().__init__()
        self.layer, self.norm = layer, norm

    def folded(self) -> nn.Module:
        """Return the layer that computes both, without the hooks of either."""
        layer = copy.deepcopy(self.layer)  # another norm may share it
        for hooks in (layer._forward_hooks, layer._forward_pre_hooks):
            hooks.clear()
        fold_norm(layer, self.norm, inner_axes=layer.weight.dim() - 1)
        return layer.requires_grad_(False)


def in_place(activation: nn.Module) -> nn.Module:
    """Return a copy of an activation that changes its input, which must be nobody else's."""
    activation = copy.deepcopy(activation)
    activation.inplace = True
    return activation


@torch.no_grad()
def fold_norm(layer: nn.Module, norm: nn.modules.batchnorm._BatchNorm, *, inner_axes: int) -> None:
    """Change weight and bias so that ``layer(x)`` becomes ``norm(layer(x))``; the sums are float64, rounded once.

    ``inner_axes`` is the number of axes of the weight behind that of the output channels.
    """
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() if layer.bias is None else layer.bias.double() - norm.running_mean.double()
    bias = shift * scale if norm.bias is None else shift * scale + norm.bias.double()
    weight, dtype = layer.weight.double() * scale.reshape(-1, *[1] * inner_axes), layer.weight.dtype
    layer.weight, layer.bias = nn.Parameter(weight.to(dtype)), nn.Parameter(bias.to(dtype))
