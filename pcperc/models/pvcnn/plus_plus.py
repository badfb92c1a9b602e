# SPDX-License-Identifier: Apache-2.0
"""PVCNN++: PointNet++ with point-voxel convolutions at each of its levels.

Source: Liu, Tang, Lin and Han, "Point-Voxel CNN for Efficient 3D Deep Learning", NeurIPS 2019, section 5.2, and Qi, Yi,
Su and Guibas, "PointNet++", NeurIPS 2017.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pcperc import nn as spnn
from pcperc.models.pvcnn.layers import (
    Block,
    check_network_input,
    make_head,
    make_point_layers,
    one_hot_categories,
    scaled,
    spread,
)
from pcperc.registry import MODELS
from pcperc.sparse import PointTensor


class Down(NamedTuple):
    """A level down: point-voxel convolutions, then centres (all points in one centre where num_centers is None)."""

    blocks: Sequence[Block]
    channels: Sequence[int]
    num_centers: int | None = None
    radius: float | None = None
    num_neighbors: int | None = None


class Up(NamedTuple):
    """A level up: the perceptron behind interpolation, then point-voxel convolutions."""

    channels: Sequence[int]
    blocks: Sequence[Block] = ()


@MODELS.register_module()
class PVCNN2(nn.Module):
    """Levels down to fewer centres, levels back up to the points with skip connections, and a classifier.

    Without blocks this is PointNet++ with single-scale grouping. The published forms are in
    ``pcperc.models.pvcnn.published``.

    Args:
        in_channels: features of a point; the first three are left out where the last level up reads them again.
        num_classes: outputs of a point.
        downs, ups: as many ``Down`` as ``Up``, or tuples of their fields.
        classifier, num_categories, width, resolution_scale, with_se, normalize: as in ``PVCNN``; categories join what
            the last level up reads.
        skip_first: how many of the features of a point the last level up does not read again: the coordinates.
    Shape: as ``PVCNN``. A cloud of fewer points than centres keeps all of them.
    Raises:
        TypeError, ValueError: as ``PVCNN``; not as many downs as ups.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        downs: Sequence[Down],
        ups: Sequence[Up],
        classifier: Sequence[float],
        num_categories: int = 0,
        skip_first: int = 3,
        width: float = 1.0,
        resolution_scale: float = 1.0,
        with_se: bool = False,
        normalize: bool = True,
    ):
        super().__init__()
        if len(downs) != len(ups):
            raise ValueError(f"PVCNN2: downs must be as many as ups, got {len(downs)} and {len(ups)}")
        self.in_channels, self.num_categories, self.skip_first = in_channels, num_categories, skip_first
        options = dict(width=width, resolution_scale=resolution_scale, with_se=with_se, normalize=normalize)
        self.down_layers, self.abstractions = nn.ModuleList(), nn.ModuleList()
        self.propagations, self.up_layers = nn.ModuleList(), nn.ModuleList()
        skips, channels = [], in_channels
        for down in (Down(*down) for down in downs):
            skips.append(channels)
            self.down_layers.append(make_point_layers(channels, down.blocks, **options))
            channels = _last(self.down_layers[-1], channels)
            self.abstractions.append(_make_abstraction(channels, down, width))
            channels = self.abstractions[-1].mlp.out_channels
        skips[0] = in_channels - skip_first + num_categories
        for up in (Up(*up) for up in ups):
            self.propagations.append(spnn.FeaturePropagation(channels + skips.pop(), scaled(width, up.channels)))
            channels = self.propagations[-1].mlp.out_channels
            self.up_layers.append(make_point_layers(channels, up.blocks, **options))
            channels = _last(self.up_layers[-1], channels)
        self.classifier = make_head(channels, classifier, num_classes, width=width)

    def forward(self, points: PointTensor, categories: Tensor | None = None) -> PointTensor:
        name = type(self).__name__
        check_network_input(name, points, self.in_channels)
        one_hot = one_hot_categories(name, points, categories, self.num_categories)
        x, skips = points, []
        for layers, abstraction in zip(self.down_layers, self.abstractions, strict=True):
            skips.append(x)
            for layer in layers:
                x = layer(x)
            x = abstraction(x)
        again = points.feats[:, self.skip_first :]
        skips[0] = points.replace(feats=again if one_hot is None else torch.cat([spread(one_hot, points), again], 1))
        for propagation, layers in zip(self.propagations, self.up_layers, strict=True):
            x = propagation(x, skips.pop())
            for layer in layers:
                x = layer(x)
        return points.replace(feats=self.classifier(x.feats))


def _last(layers: nn.ModuleList, otherwise: int) -> int:
    return layers[-1].out_channels if len(layers) else otherwise


def _make_abstraction(in_channels: int, down: Down, width: float) -> nn.Module:
    channels = scaled(width, down.channels)
    if down.num_centers is None:
        return spnn.GlobalAbstraction(in_channels, channels)
    options = dict(num_centers=down.num_centers, radius=down.radius, num_neighbors=down.num_neighbors)
    return spnn.SetAbstraction(in_channels, channels, **options)
