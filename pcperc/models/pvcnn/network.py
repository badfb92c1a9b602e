# SPDX-License-Identifier: Apache-2.0
"""PVCNN: PointNet whose layers also look at their surroundings, on coarse grids.

Source: Liu, Tang, Lin and Han, "Point-Voxel CNN for Efficient 3D Deep Learning", NeurIPS 2019, section 5, and the code
published with it for what the paper leaves open.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcperc import nn as spnn
from pcperc.models.pvcnn.layers import (
    Block,
    check_network_input,
    first_weights,
    head_of_sum,
    make_head,
    make_point_layers,
    one_hot_categories,
    run_point_layers,
    scaled,
)
from pcperc.registry import MODELS
from pcperc.sparse import PointTensor


@MODELS.register_module()
class PVCNN(nn.Module):
    """Layers on points, the maximum of the last over each cloud, and a classifier of both for every point.

    With SharedMLP layers alone this is PointNet. The published forms are in ``pcperc.models.pvcnn.published``.

    Args:
        in_channels: features of a point. Coordinates are features only where the caller puts them there.
        num_classes: outputs of a point.
        blocks: (channels, layers, R or None) each: PVConv of resolution R, or SharedMLP.
        classifier: widths >= 1 of the classifier's perceptrons, and probabilities < 1 of dropout between them.
        cloud_channels: perceptrons behind the maximum.
        num_categories: where > 0, the category of each cloud is given to the classifier as a one-hot vector.
        concat_layers: whether the classifier sees the outputs of all layers or of the last one alone.
        width: factor on all numbers of channels but in_channels and num_classes, rounded down.
        resolution_scale: factor on all resolutions, rounded down.
        with_se, normalize: as in ``PVConv``.
    Shape: PointTensor with (N, in_channels) features, and categories (B,) int64 where num_categories > 0, to a
        PointTensor of the same points with (N, num_classes). Clouds may have any number of points, and none.
    Raises:
        TypeError, ValueError: an argument; an input of other channels or axes; categories missing or out of range.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        blocks: Sequence[Block],
        classifier: Sequence[float],
        cloud_channels: Sequence[int] = (),
        num_categories: int = 0,
        concat_layers: bool = True,
        width: float = 1.0,
        resolution_scale: float = 1.0,
        with_se: bool = False,
        normalize: bool = True,
    ):
        super().__init__()
        self.in_channels, self.num_classes, self.num_categories = in_channels, num_classes, num_categories
        self.concat_layers = concat_layers
        options = dict(width=width, resolution_scale=resolution_scale, with_se=with_se, normalize=normalize)
        self.point_layers = make_point_layers(in_channels, blocks, **options)
        of_layers = [layer.out_channels for layer in self.point_layers]
        self.cloud_layers = spnn.SharedMLP(of_layers[-1], scaled(width, cloud_channels)) if cloud_channels else None
        of_cloud = self.cloud_layers.out_channels if cloud_channels else of_layers[-1]
        # What the classifier sees of each point: outputs of layers, then what is the same for all points of its cloud.
        self.seen_channels = [*(of_layers if concat_layers else of_layers[-1:]), num_categories + of_cloud]
        self.classifier = make_head(sum(self.seen_channels), classifier, num_classes, width=width)
        if isinstance(self.classifier[0], nn.Dropout):
            raise ValueError(f"PVCNN: classifier must not begin with dropout, got {tuple(classifier)}")

    def forward(self, points: PointTensor, categories: Tensor | None = None) -> PointTensor:
        name = type(self).__name__
        check_network_input(name, points, self.in_channels)
        one_hot = one_hot_categories(name, points, categories, self.num_categories)
        *of_layers, of_cloud = first_weights(self.classifier, self.seen_channels)
        of_layers = [None] * (len(self.point_layers) - len(of_layers)) + of_layers
        cloud, mixed = run_point_layers(self.point_layers, of_layers, points)
        if self.cloud_layers is not None:
            cloud = self.cloud_layers(cloud)
        if one_hot is not None:
            cloud = torch.cat([one_hot.to(cloud.dtype), cloud], 1)
        return points.replace(feats=head_of_sum(self.classifier, mixed, F.linear(cloud, of_cloud), points))


@MODELS.register_module()
class PVCNNClassifier(nn.Module):
    """Layers on points, the maximum of the last over each cloud, and a classifier of that: a class for the cloud.

    Args:
        in_channels, num_classes, blocks, width, resolution_scale, with_se, normalize: as in ``PVCNN``.
        head: widths >= 1 of the classifier's perceptrons, and probabilities < 1 of dropout between them.
    Shape: PointTensor with (N, in_channels) features to (B, num_classes). A cloud without points has features 0.
    Raises:
        TypeError, ValueError: as ``PVCNN``.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        blocks: Sequence[Block],
        head: Sequence[float],
        width: float = 1.0,
        resolution_scale: float = 1.0,
        with_se: bool = False,
        normalize: bool = True,
    ):
        super().__init__()
        self.in_channels, self.num_classes = in_channels, num_classes
        options = dict(width=width, resolution_scale=resolution_scale, with_se=with_se, normalize=normalize)
        self.point_layers = make_point_layers(in_channels, blocks, **options)
        self.head = make_head(self.point_layers[-1].out_channels, head, num_classes, width=width)

    def forward(self, points: PointTensor) -> Tensor:
        check_network_input(type(self).__name__, points, self.in_channels)
        cloud, _ = run_point_layers(self.point_layers, [None] * len(self.point_layers), points)
        return self.head(cloud)
