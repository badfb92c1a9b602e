# SPDX-License-Identifier: Apache-2.0
"""GravNet: a graph network whose neighbours are the nearest hits in a space that it learns.

Source: Qasim, Kieseler, Iiyama and Pierini, "Learning representations of irregular particle-detector geometry with
distance-weighted graph networks", Eur. Phys. J. C 79 (2019); the sizes are those of the network that is published for
object condensation in the endcap (cms-pepr/pytorch_cmspepr), with which this class has the same 0.424M parameters.
"""

import torch
from torch import Tensor, nn

from pcperc import ops
from pcperc.models.calorimeter._checks import check_counts
from pcperc.models.calorimeter.calo_spvcnn import HitOutputs
from pcperc.models.calorimeter.nearest import nearest_rows
from pcperc.nn import RowBatchNorm
from pcperc.nn._checks import check_points
from pcperc.ops.k_nearest import MAX_COLUMNS
from pcperc.registry import MODELS
from pcperc.sparse import PointTensor

STEEPNESS = 10.0  # of the weight exp(-10 d^2)
# Of what neighbours send, in inference; on a CPU it then stays in its caches.
MAX_TABLE_BYTES, MAX_TABLE_BYTES_ON_CPU = 2**28, 2**24


class GravNetConv(nn.Module):
    """Weigh what the nearest hits send by their distance in a learned space, and take the mean and the maximum.

    Args:
        in_channels, out_channels: of a hit. space: coordinates S. sent: channels that a hit sends. neighbors: how many
            hits each one hears, itself included; fewer where its event has fewer.
    Shape: (N, in_channels) and the segments of the events to (N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, *, space: int, sent: int, neighbors: int):
        super().__init__()
        self.place, self.send = nn.Linear(in_channels, space), nn.Linear(in_channels, sent)
        self.own = nn.Linear(in_channels, out_channels, bias=False)
        self.heard = nn.Linear(2 * sent, out_channels)
        self.neighbors = neighbors

    def forward(self, feats: Tensor, items: ops.Segments) -> Tensor:
        with torch.autocast(feats.device.type, enabled=False):  # half a coordinate's digits would shuffle neighbours
            place = self.place(feats.float())
        rows = nearest_rows(place, items, self.neighbors)
        table = torch.cat([place, self.send(feats).float()], 1)
        limit = MAX_TABLE_BYTES_ON_CPU if table.device.type == "cpu" else MAX_TABLE_BYTES
        most = max(limit // (4 * rows.shape[1] * table.shape[1]), 1)  # hits whose tables are made at once
        if torch.is_grad_enabled() or len(rows) <= most:
            return self.own(feats) + self.heard(hear(table, rows, place))
        parts = zip(rows.split(most), place.split(most), strict=True)
        return self.own(feats) + self.heard(torch.cat([hear(table, near, middle) for near, middle in parts]))


def hear(table: Tensor, rows: Tensor, place: Tensor) -> Tensor:
    """Mean and maximum of what hits hear.

    Args:
        table: (N, S + sent) of all hits, coordinates before what they send. rows: (M, K) of it, -1 for none.
        place: (M, S) of the hits that hear.
    Returns:
        (M, 2 * sent).
    """
    there = (rows >= 0).unsqueeze(2)
    around, sent = ops.gather_rows(table, rows).split([place.shape[1], table.shape[1] - place.shape[1]], dim=2)
    squares = (around - place.unsqueeze(1)).square().sum(2, keepdim=True)
    sent = sent * torch.exp(-STEEPNESS * squares)
    mean = (sent * there).sum(1) / there.sum(1)
    return torch.cat([mean, sent.masked_fill(~there, -torch.inf).amax(1)], 1)


class GravNetBlock(nn.Module):
    """A GravNet convolution, a perceptron, and what the whole event has to say."""

    def __init__(self, in_channels: int, *, channels: int, space: int, sent: int, neighbors: int):
        super().__init__()
        self.conv = GravNetConv(in_channels, channels, space=space, sent=sent, neighbors=neighbors)
        self.after = nn.Sequential(
            RowBatchNorm(channels),
            nn.Linear(channels, 128),
            nn.Tanh(),
            RowBatchNorm(128),
            nn.Linear(128, channels),
            nn.Tanh(),
        )
        self.exchange = nn.Sequential(nn.Linear(4 * channels, channels), nn.Tanh(), RowBatchNorm(channels))

    def forward(self, feats: Tensor, items: ops.Segments) -> Tensor:
        return self.exchange(with_event(self.after(self.conv(feats, items)), items))


@MODELS.register_module()
class GravNet(nn.Module):
    """Four blocks, each of which sees the whole event; their outputs side by side go through a perceptron.

    Args:
        in_channels: features of a hit. num_classes, embedding_channels: of the outputs.
        blocks, channels, space, sent, neighbors: as published. All are whole numbers >= 1, ``space`` at most 16.
    Shape: PointTensor with (N, in_channels) features to `HitOutputs`; N may be 0, and so may be the points of an item.
    Raises:
        TypeError: the input is no PointTensor; an argument is no whole number. ValueError: it is out of its range.
    """

    def __init__(
        self,
        in_channels: int = 5,
        num_classes: int = 3,
        embedding_channels: int = 8,
        *,
        blocks: int = 4,
        channels: int = 96,
        space: int = 4,
        sent: int = 22,
        neighbors: int = 40,
    ):
        super().__init__()
        check_counts(self, in_channels=in_channels, num_classes=num_classes, embedding_channels=embedding_channels)
        check_counts(self, blocks=blocks, channels=channels, sent=sent, neighbors=neighbors)
        check_counts(self, most=MAX_COLUMNS, space=space)
        self.norm = RowBatchNorm(in_channels)
        self.enter = nn.Linear(4 * in_channels, 64)
        options = dict(channels=channels, space=space, sent=sent, neighbors=neighbors)
        self.blocks = nn.ModuleList(GravNetBlock(64 if i == 0 else channels, **options) for i in range(blocks))
        layers, sizes = [], [blocks * channels, 128, 128, 128, 128]
        for before, after in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Linear(before, after), nn.ReLU(), RowBatchNorm(after)]
        self.outputs = [num_classes, embedding_channels]
        self.head = nn.Sequential(
            *layers, nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, sum(self.outputs))
        )

    def forward(self, points: PointTensor) -> HitOutputs:
        check_points("GravNet", points)
        items = points.items
        feats = self.enter(with_event(self.norm(points.feats), items))
        after = []
        for block in self.blocks:
            feats = block(feats, items)
            after.append(feats)
        return HitOutputs(*self.head(torch.cat(after, 1)).split(self.outputs, dim=1))


def with_event(feats: Tensor, items: ops.Segments) -> Tensor:
    """Put the mean, the minimum and the maximum over a row's item in front of it, (N, C) to (N, 4 C)."""
    parts = [
        ops.segment_reduce(feats, items, mode="mean"),
        -ops.segment_reduce(-feats, items, mode="max"),
        ops.segment_reduce(feats, items, mode="max"),
    ]
    return torch.cat([ops.gather_rows(torch.cat(parts, 1), items.index), feats], 1)
