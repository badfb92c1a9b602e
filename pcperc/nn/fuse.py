# SPDX-License-Identifier: Apache-2.0
"""Networks for inference: batch norm in the weights, and a sparse convolution with all behind it as one operator."""

import copy
from collections.abc import Callable

from torch import nn
from torch.nn.utils import parametrize

from pcperc.nn._checks import check_dtype
from pcperc.nn._parts import own_layer, own_parameter
from pcperc.nn.activation import LeakyReLU, ReLU
from pcperc.nn.conv_base import SparseConvBase
from pcperc.nn.fold import RECTIFIERS, NormedLayer, fold_norm, in_place, takes_up
from pcperc.nn.norm import BatchNorm
from pcperc.nn.residual import ConvBlock, check_residual
from pcperc.nn.shared_mlp import SharedMLP
from pcperc.nn.sync_norm import SyncBatchNorm
from pcperc.ops._checks import describe
from pcperc.ops._layer_calls import layer_conv_fused
from pcperc.sparse import SparseTensor


def fuse(model: nn.Module) -> nn.Module:
    """Return a copy for inference with batch norm folded in, in which every :class:`ConvBlock` is one operator.

    A sparse convolution with the batch norm, the ReLU or LeakyReLU, or both behind it in a ``torch.nn.Sequential`` is a
    block too. So is what a module's method ``to_conv_blocks()`` returns, a module that computes the same with blocks of
    its parts. A dense layer stays a layer of its own and takes up the norm behind it in a ``torch.nn.Sequential`` or a
    :class:`SharedMLP`, a ReLU or LeakyReLU behind the norm then works in place: ``torch.nn.Linear`` and RowBatchNorm,
    :class:`Linear` and BatchNorm or SyncBatchNorm, ``torch.nn.Conv2d`` and BatchNorm2d, ``torch.nn.Conv3d`` and
    BatchNorm3d. ``torch.nn.Identity`` stands where something was. That makes PVConv and all that is built of SharedMLP
    faster, too. Other dense layers and norms (transposed convolutions, BatchNorm1d), dense layers with parametrized
    weights or with a norm that keeps no running statistics, norms in front of a layer, and layers that another module
    calls one by one stay as they are.

    The folded weights are computed in float64 and rounded once; results differ from those of ``model`` by rounding. The
    copy does not learn: weights with a norm in them need no gradient, and to a block features that do are an error.
    Hooks of what is folded or becomes one operator are not called in it.

    Args:
        model: in eval mode; it is not changed.
    Raises:
        TypeError: no module, or the norm of a block is no batch norm.
        ValueError: a block, or a dense layer with its norm, is in training mode, or a block's norm keeps no running
            statistics or its sparse convolution has another backend or parametrized weights, and it is named as in
            ``model``: "model.encoder.0"; or there is neither.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"fuse: model must be a module, got {describe(model)}")
    fused = _replace(copy.deepcopy(model), _to_blocks, {})
    blocks = {name: module for name, module in fused.named_modules() if isinstance(module, ConvBlock | NormedLayer)}
    if not blocks:
        wanted = "a ConvBlock or a layer with its batch norm"
        raise ValueError(f"fuse: model must contain {wanted}, got none in {type(model).__name__}")
    for name, block in blocks.items():
        _check_block(f"model.{name}" if name else "model", block)
    return _replace(fused, _fuse_block, {}).eval()  # an Identity is made in training mode, which a capture would refuse


def _to_blocks(module: nn.Module) -> nn.Module:
    """Put ConvBlocks and NormedLayers in place of what can be one."""
    if hasattr(module, "to_conv_blocks"):
        return module.to_conv_blocks()
    if type(module).forward in (nn.Sequential.forward, SharedMLP.forward):  # what runs one layer after the other
        layers, start = list(module), 0
        while start < len(layers):
            layer, end = layers[start], start + 1
            if isinstance(layer, SparseConvBase):
                parts = []
                for kinds in ((BatchNorm, SyncBatchNorm), (ReLU, LeakyReLU)):
                    is_next = end < len(layers) and type(layers[end]) in kinds
                    parts.append(layers[end] if is_next else None)
                    end += is_next
                if end > start + 1:
                    module[start] = ConvBlock(layer, *parts)
            elif end < len(layers) and takes_up(layer, layers[end]):
                module[start] = NormedLayer(layer, layers[end])
                end += 1
                if end < len(layers) and type(layers[end]) in RECTIFIERS:
                    module[end] = in_place(layers[end])
            for place in range(start + 1, end):
                module[place] = nn.Identity()
            start = end
    return module


def _check_block(name: str, block: ConvBlock | NormedLayer) -> None:
    norm = block.norm
    if any(module.training for module in block.modules() if module is not block):
        raise ValueError(f"fuse: model must be in eval mode (model.eval()), got {name} in training mode")
    if isinstance(block, ConvBlock):
        if block.conv.backend is not None:
            raise ValueError(f"fuse: conv of {name} must have backend None, got {block.conv.backend!r}")
        if parametrize.is_parametrized(block.conv):
            raise ValueError(f"fuse: conv of {name} must have plain weights, got parametrized ones")
        if norm is not None and type(norm) not in (BatchNorm, SyncBatchNorm):  # a subclass may compute something else
            raise TypeError(f"fuse: norm of {name} must be BatchNorm, SyncBatchNorm or None, got {type(norm).__name__}")
    if norm is not None and norm.running_mean is None:
        raise ValueError(f"fuse: norm of {name} must keep running statistics, got track_running_stats=False")


def _fuse_block(module: nn.Module) -> nn.Module:
    if isinstance(module, NormedLayer):
        return module.folded()
    return FusedConvBlock(module) if isinstance(module, ConvBlock) else module


def _replace(module: nn.Module, by: Callable[[nn.Module], nn.Module], done: dict[nn.Module, nn.Module]) -> nn.Module:
    """Put ``by(m)`` in place of each module m; one that is used twice stays one module."""
    if module not in done:
        done[module] = by(module)
        for name, child in done[module]._modules.items():
            if child is not None:
                done[module]._modules[name] = _replace(child, by, done)
    return done[module]


class FusedConvBlock(nn.Module):
    """``activation(conv(x) + residual)`` in one operator; :func:`fuse` makes it from a ConvBlock in eval mode.

    ``conv.weight`` has the form that the operator takes, (K, in_channels / groups, out_channels).
    """

    def __init__(self, block: ConvBlock):
        super().__init__()
        self.conv = copy.deepcopy(block.conv)  # another block may share it, with a norm of its own
        self.conv.weight = nn.Parameter(self.conv.tap_weights.detach())
        if block.norm is not None:
            fold_norm(self.conv, block.norm, inner_axes=0)
        self.conv.requires_grad_(False)
        is_fused = type(block.activation) in (ReLU, LeakyReLU)  # a subclass may compute something else
        self.negative_slope = getattr(block.activation, "negative_slope", 0.0) if is_fused else 1.0
        self.activation = None if is_fused else block.activation  # after the operator, which does not know it
        self.eval()

    def forward(self, x: SparseTensor, residual: SparseTensor | None = None) -> SparseTensor:
        conv = own_layer(self, "conv")
        kernel_map = conv.kernel_map(x)
        if residual is not None:
            check_residual(residual, kernel_map.target, channels=conv.out_channels)
        tables = kernel_map.convolution_tables(with_reverse=False)
        try:
            feats = layer_conv_fused(
                x.feats,
                own_parameter(conv, "weight"),
                tables.neighbors,
                tables.row_order,
                own_parameter(conv, "bias"),
                None if residual is None else residual.feats,
                conv.groups,
                self.negative_slope,
            )
        except ValueError:
            check_dtype(conv, x.feats)
            raise
        out = SparseTensor.on_topology(kernel_map.target, feats, x.kernel_maps, check=False)
        return out if self.activation is None else self.activation(out)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"
