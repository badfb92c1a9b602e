# SPDX-License-Identifier: Apache-2.0
"""Convolution with norm and activation, and the residual block of two of them."""

import torch
from torch import nn

from pcperc.nn._checks import check_dtype, check_input, has_hooks
from pcperc.nn._parts import own_buffer, own_layer, own_parameter
from pcperc.nn.activation import LeakyReLU, ReLU
from pcperc.nn.conv import SparseConv, SubMConv1d, SubMConv2d, SubMConv3d, SubMConv4d
from pcperc.nn.conv_base import PerAxis, SparseConvBase
from pcperc.nn.norm import BatchNorm
from pcperc.nn.transposed_conv import SparseConvTranspose
from pcperc.ops._checks import describe, positive_int
from pcperc.ops._conv_arguments import conv_dtype
from pcperc.ops._layer_calls import layer_conv_norm
from pcperc.sparse import SparseTensor, Topology
from pcperc.sparse._checks import check_same_voxels

_FORWARDS = {SparseConvBase.forward, SparseConv.forward, SparseConvTranspose.forward}
_SUBM_CONVS = {1: SubMConv1d, 2: SubMConv2d, 3: SubMConv3d, 4: SubMConv4d}


class ConvBlock(nn.Module):
    """``activation(norm(conv(x)) + residual)``: the unit that :func:`pcperc.nn.fuse` turns into one operator.

    Args:
        conv: any sparse convolution of this package.
        norm: a norm over ``conv.out_channels`` channels, or None.
        activation: a layer of pcperc.nn that treats every number alone, or None.
    Shape: as ``conv``; ``residual`` is a SparseTensor on the voxels of the output with as many channels.
    Raises:
        TypeError: conv is no sparse convolution, norm or activation no module.
        ValueError: a residual on other voxels or with other channels; what the parts raise.
    """

    def __init__(self, conv: SparseConvBase, norm: nn.Module | None = None, activation: nn.Module | None = None):
        super().__init__()
        if not isinstance(conv, SparseConvBase):
            raise TypeError(f"ConvBlock: conv must be a sparse convolution of pcperc.nn, got {type(conv).__name__}")
        for name, layer in (("norm", norm), ("activation", activation)):
            if layer is not None and not isinstance(layer, nn.Module):
                raise TypeError(f"ConvBlock: {name} must be a module or None, got {describe(layer)}")
        self.conv, self.norm, self.activation = conv, norm, activation

    def forward(self, x: SparseTensor, residual: SparseTensor | None = None) -> SparseTensor:
        if self.training:
            out = self._train_in_one_step(x, residual)
            if out is not None:
                return out
        return norm_and_activation(
            own_layer(self, "conv")(x), own_layer(self, "norm"), own_layer(self, "activation"), residual
        )

    def _train_in_one_step(self, x: SparseTensor, residual: SparseTensor | None) -> SparseTensor | None:
        """The same by ``ops.sparse_conv_norm``; None where that computes something else."""
        conv, norm = own_layer(self, "conv"), own_layer(self, "norm")
        slope = _one_pass_slope(norm, own_layer(self, "activation"))
        if slope is None or not norm.training or norm.num_features != conv.out_channels or not _is_one_operator(conv):
            return None
        kernel_map = conv.kernel_map(x)
        if residual is not None:
            check_residual(residual, kernel_map.target, channels=conv.out_channels)
            if residual.dtype != conv_dtype(x.feats):
                return None
        if kernel_map.target.coords.shape[0] < 2:  # the norm then has its own statistics
            return None
        tables = kernel_map.convolution_tables(with_reverse=torch.is_grad_enabled() and x.feats.requires_grad)
        running = None, None, None
        if norm.track_running_stats:
            mean, var = own_buffer(norm, "running_mean"), own_buffer(norm, "running_var")
            running = mean, var, own_buffer(norm, "num_batches_tracked")
        try:
            feats = layer_conv_norm(
                x.feats,
                own_parameter(conv, "weight"),
                tables,
                own_parameter(conv, "bias"),
                conv.groups,
                None if residual is None else residual.feats,
                own_parameter(norm, "weight"),
                own_parameter(norm, "bias"),
                (*running, norm.momentum),
                norm.eps,
                slope,
            )
        except ValueError:
            check_dtype(conv, x.feats)
            check_dtype(norm, x.feats)
            raise
        return SparseTensor.on_topology(kernel_map.target, feats, x.kernel_maps, check=False)


def norm_and_activation(
    x: SparseTensor, norm: nn.Module | None, activation: nn.Module | None, residual: SparseTensor | None = None
) -> SparseTensor:
    """``activation(norm(x) + residual)``, one pass each way for batch norm with no activation or a (leaky) ReLU."""
    if residual is not None:
        check_residual(residual, x.topology, channels=x.num_channels)
    slope = _one_pass_slope(norm, activation)
    if slope is not None and (residual is None or residual.dtype == x.dtype):
        check_input(norm, x, channels=norm.num_features)
        feats = norm.normalise(x.feats, None if residual is None else residual.feats, slope)
        return SparseTensor.on_topology(x.topology, feats, x.kernel_maps, check=False)
    if norm is not None:
        x = norm(x)
    if residual is not None:
        x = x.replace(feats=x.feats + residual.feats)
    return x if activation is None else activation(x)


def _one_pass_slope(norm: nn.Module | None, activation: nn.Module | None) -> float | None:
    """What ``ops.batch_norm`` takes to compute both, or None where it cannot: a subclass may compute something else."""
    if type(norm) is not BatchNorm or torch.compiler.is_compiling() or has_hooks(norm):
        return None
    if activation is None:
        return 1.0
    if type(activation) not in (ReLU, LeakyReLU) or has_hooks(activation):
        return None
    slope = activation.negative_slope if type(activation) is LeakyReLU else 0.0
    return slope if slope >= 0 else None


def _is_one_operator(conv: SparseConvBase) -> bool:
    """Whether a call of the layer is its kernel map and ``ops.sparse_conv``: a subclass may compute something else."""
    kind = type(conv)
    is_known = getattr(conv.forward, "__func__", None) in _FORWARDS and kind._convolve is SparseConvBase._convolve
    has_plain_taps = kind.tap_weights is SparseConvBase.tap_weights
    # Hooks of all modules are torch's flop counter, say.
    is_watched = has_hooks(conv) or nn.modules.module._has_any_global_hook()
    return is_known and has_plain_taps and conv.backend is None and not is_watched


class ResidualBlock(nn.Module):
    """Two submanifold convolutions with batch norm around a shortcut, which is projected where the channels change.

    ``relu(norm(conv(relu(norm(conv(x))))) + shortcut(x))``; the shortcut is x, or a convolution of one tap and a norm.

    Args:
        in_channels, out_channels: channels, >= 1.
        kernel_size, dilation: of both convolutions, one number for all axes or one each.
        inner_channels: channels between the two convolutions; None is out_channels.
        project: whether the shortcut is projected even where the channels stay, as in subnets of a super network, which
            share the projection with wider ones.
        dims: number of spatial axes, 1 to 4.
        device, dtype: of the parameters, as in torch's layers.
    Shape: SparseTensor with (M, in_channels) features to one of the same voxels with (M, out_channels).
    Raises:
        TypeError, ValueError: an argument, or an input of other channels or dimensions.
    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, figure 2 and equation 2, as in Choy et
        al., "4D Spatio-Temporal ConvNets: Minkowski Convolutional Neural Networks", CVPR 2019.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis = 3,
        *,
        dilation: PerAxis = 1,
        inner_channels: int | None = None,
        project: bool = False,
        dims: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if positive_int("ResidualBlock", "dims", dims) not in _SUBM_CONVS:
            raise ValueError(f"ResidualBlock: dims must be 1, 2, 3 or 4, got {dims}")
        factory = dict(device=device, dtype=dtype)
        conv, options = _SUBM_CONVS[dims], dict(bias=False, **factory)
        inner = out_channels if inner_channels is None else inner_channels
        conv1 = conv(in_channels, inner, kernel_size, dilation=dilation, **options)
        conv2 = conv(inner, out_channels, kernel_size, dilation=dilation, **options)
        self.block1 = ConvBlock(conv1, BatchNorm(inner, **factory), ReLU())
        self.block2 = ConvBlock(conv2, BatchNorm(out_channels, **factory), ReLU())
        self.shortcut = None
        if project or in_channels != out_channels:
            self.shortcut = ConvBlock(conv(in_channels, out_channels, 1, **options), BatchNorm(out_channels, **factory))

    @classmethod
    def of(cls, block1: ConvBlock, block2: ConvBlock, shortcut: nn.Module | None = None) -> "ResidualBlock":
        """Put a residual block together of its parts."""
        block = cls.__new__(cls)
        nn.Module.__init__(block)
        block.block1, block.block2, block.shortcut = block1, block2, shortcut
        return block

    def forward(self, x: SparseTensor) -> SparseTensor:
        shortcut = own_layer(self, "shortcut")
        residual = x if shortcut is None else shortcut(x)
        return own_layer(self, "block2")(own_layer(self, "block1")(x), residual)


def check_residual(residual: SparseTensor, topology: Topology, *, channels: int) -> None:
    """Require a sparse tensor on these voxels, compared where the topology is another, with as many channels."""
    if not isinstance(residual, SparseTensor):
        raise TypeError(f"ConvBlock: residual must be a SparseTensor, got {type(residual).__name__}")
    if residual.num_channels != channels:
        raise ValueError(f"ConvBlock: residual must have {channels} channels, got {residual.num_channels}")
    if residual.topology is not topology:
        advice = "a residual is added to the convolution's output"
        check_same_voxels("ConvBlock", topology, residual.topology, advice=advice)
