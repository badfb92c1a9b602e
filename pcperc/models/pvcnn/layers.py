# SPDX-License-Identifier: Apache-2.0
"""What the networks of this package are put together from."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcperc import nn as spnn
from pcperc import ops
from pcperc.nn._checks import check_points
from pcperc.nn.shared_mlp import rows_at_once
from pcperc.sparse import PointTensor

Block = tuple[int, int, int | None]  # channels, layers, resolution of a PVConv or None for a SharedMLP


def scaled(width: float, channels: Sequence[int]) -> list[int]:
    """Multiply numbers of channels by ``width``, rounded down."""
    if not width > 0 or any(int(width * c) < 1 for c in channels):
        raise ValueError(f"PVCNN: width must leave one channel or more of each of {list(channels)}, got {width}")
    return [int(width * c) for c in channels]


def make_point_layers(
    in_channels: int, blocks: Sequence[Block], *, width: float, resolution_scale: float, **options
) -> nn.ModuleList:
    """Return the layers of ``blocks``, one after the other; ``options`` are those of ``PVConv``."""
    layers = nn.ModuleList()
    for channels, count, resolution in blocks:
        (channels,) = scaled(width, [channels])
        for _ in range(count):
            if resolution is None:
                layers.append(spnn.SharedMLP(in_channels, channels))
            else:
                size = int(resolution_scale * resolution)
                layers.append(spnn.PVConv(in_channels, channels, resolution=size, **options))
            in_channels = channels
    return layers


def run_point_layers(
    layers: nn.ModuleList, weights: Sequence[Tensor | None], points: PointTensor
) -> tuple[Tensor, Tensor | None]:
    """Run layers one after the other; return what the networks here want to know of their outputs.

    The perceptrons at the end treat every point alone. In inference some points after the other pass all of them, so
    that the wide tables, of which only narrow ones remain, never exist whole.

    Args:
        layers: PVConv and SharedMLP.
        weights: for each layer None, or the columns (W, C) of a linear layer that its output of C channels passes.
        points: (N, any).
    Returns:
        The maxima of the last output by cloud, (B, C), and the sum of the products with ``weights``, (N, W), None where
        there are none.
    """
    first = len(layers)
    while first > 0 and isinstance(layers[first - 1], spnn.SharedMLP):
        first -= 1
    count = rows_at_once(list(layers[first:]), len(points), points.feats)
    if count is None:
        first = len(layers)
    x, mixed = points, None
    for layer, weight in zip(layers[:first], weights, strict=False):
        x = layer(x)
        mixed = _add_product(mixed, x.feats, weight)
    if count is None:
        return cloud_max(x.feats, points), mixed
    cloud, parts = None, []
    for start in range(0, len(points), count):
        rows = slice(start, start + count)
        part = None if mixed is None else mixed[rows]
        found, part = _run_on_rows(layers[first:], weights[first:], x.feats[rows], part, _items_of_rows(points, rows))
        cloud = found if cloud is None else torch.maximum(cloud, found)  # behind a ReLU the 0 of no rows changes none
        parts.append(part)
    return cloud, torch.cat(parts) if mixed is None and part is not None else mixed


def _run_on_rows(
    layers: nn.ModuleList,
    weights: Sequence[Tensor | None],
    feats: Tensor,
    mixed: Tensor | None,
    items: ops.Segments,
) -> tuple[Tensor, Tensor | None]:
    """A function of its own, so that the wide table is gone when the next rows get theirs."""
    for layer, weight in zip(layers, weights, strict=True):
        feats = layer(feats)
        mixed = _add_product(mixed, feats, weight)
    return ops.segment_reduce(feats, items, mode="max"), mixed


def _add_product(total: Tensor | None, feats: Tensor, weight: Tensor | None) -> Tensor | None:
    """Add ``feats @ weight.T`` to what is there, in place; autocast leaves operators in place alone."""
    if weight is None:
        return total
    if total is None:
        return F.linear(feats, weight)
    return total.addmm_(feats.to(total.dtype), weight.to(total.dtype).t())


def _items_of_rows(points: PointTensor, rows: slice) -> ops.Segments:
    """The clouds of some rows, one after the other; nothing waits for the device."""
    index, order, starts = points.items
    index = index[rows]
    if points.points_per_cloud is None:
        return ops.make_segments(index, num_segments=points.batch_size)
    return ops.Segments(index, order[: len(index)], (starts - rows.start).clamp(0, len(index)))  # in order as they are


def make_head(in_channels: int, layers: Sequence[float], out_channels: int, *, width: float = 1.0) -> nn.Sequential:
    """Return perceptrons of the widths >= 1 in ``layers``, dropout of the probabilities < 1, and a linear layer."""
    modules = []
    for layer in layers:
        if layer < 1:
            modules.append(nn.Dropout(layer))
        else:
            (channels,) = scaled(width, [int(layer)])
            modules.append(spnn.SharedMLP(in_channels, channels))
            in_channels = channels
    return nn.Sequential(*modules, nn.Linear(in_channels, out_channels))


def first_weights(head: nn.Sequential, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Return the columns of the first linear layer of a head for inputs of these numbers of channels side by side."""
    return _first_linear(head).weight.split(list(sizes), 1)


def head_of_sum(head: nn.Sequential, of_points: Tensor, of_cloud: Tensor, points: PointTensor) -> Tensor:
    """Run a head whose first linear layer is given as products: (N, C) of points and (B, C) of their clouds.

    Their sum is what the layer makes of the inputs side by side, without a table that repeats the cloud's for each of
    its points: for parts of shapes half of all memory.
    """
    bias = _first_linear(head).bias
    x = ops.segment_affine(of_points, points.items, shift=of_cloud + bias.to(of_cloud.dtype))
    inside = list(head[0])[1:] if isinstance(head[0], nn.Sequential) else []
    for module in (*inside, *list(head)[1:]):
        x = module(x)
    return x


def _first_linear(head: nn.Sequential) -> nn.Linear:
    return head[0][0] if isinstance(head[0], nn.Sequential) else head[0]


def check_network_input(name: str, points: PointTensor, in_channels: int) -> None:
    """Require points with x, y, z and ``in_channels`` features."""
    check_points(name, points)
    if points.dims != 3 or points.num_channels != in_channels:
        got = f"{points.dims} axes and {points.num_channels} channels"
        raise ValueError(f"{name}: points must have 3 axes and {in_channels} channels, got {got}")


def one_hot_categories(name: str, points: PointTensor, categories: Tensor | None, num_categories: int) -> Tensor | None:
    """(B, num_categories) in the dtype of the points, or None for a network without categories.

    Raises:
        TypeError: categories are missing, or given to a network without.
        ValueError: not (B,) int64, or a value out of range. For clouds of equal size nothing waits for a GPU: there
            such a value is a failed assertion of the device, which CUDA tells at its next wait, also behind the replay
            of a graph, and after which the process can use it no more.
        RuntimeError: the same under torch.compile.
    """
    if num_categories == 0:
        if categories is not None:
            raise TypeError(f"{name}: categories must be None for a network without categories, got {type(categories)}")
        return None
    if not isinstance(categories, Tensor):
        raise TypeError(f"{name}: categories must be a tensor, got {type(categories).__name__}")
    if categories.shape != (points.batch_size,) or categories.dtype != torch.int64:
        got = f"{tuple(categories.shape)} {categories.dtype}"
        raise ValueError(f"{name}: categories must be ({points.batch_size},) int64, got {got}")
    one_hot = categories[:, None] == torch.arange(num_categories, device=categories.device)
    are_known = one_hot.any(1).all()  # a category out of range is none of them
    wanted = f"{name}: categories must be in [0, {num_categories})"
    if torch.compiler.is_compiling():
        torch._assert_async(are_known, wanted)
    elif points.points_per_cloud is None:
        if not are_known:
            raise ValueError(f"{wanted}, got {categories.tolist()}")
    else:
        try:
            torch._assert_async(are_known, wanted)
        except RuntimeError as error:
            if categories.device.type != "cpu":  # of something that went wrong before
                raise
            raise ValueError(f"{wanted}, got {categories.tolist()}") from error
    return one_hot.to(points.dtype)


def spread(of_clouds: Tensor, points: PointTensor) -> Tensor:
    """(B, C) features of clouds to (N, C) features of their points."""
    return ops.gather_rows(of_clouds, points.items.index)


def cloud_max(feats: Tensor, points: PointTensor) -> Tensor:
    """(N, C) features of points to their maxima by cloud, (B, C); 0 in an empty one."""
    return ops.segment_reduce(feats, points.items, mode="max")
