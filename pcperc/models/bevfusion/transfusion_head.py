# SPDX-License-Identifier: Apache-2.0
"""TransFusion's object head: proposals from a heatmap, one transformer layer, one box per proposal.

Source: Bai et al., TransFusion, CVPR 2022; as in BEVFusion's released configuration (Liu et al., ICRA 2023).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcperc import ops
from pcperc.geometry import Detections
from pcperc.models.bevfusion.box_coder import BoxCoder
from pcperc.models.bevfusion.transformer import TransFusionDecoderLayer
from pcperc.models.bevfusion.transfusion_loss import HeadOutput, TransFusionLoss
from pcperc.models.blocks import ConvNormReLU
from pcperc.models.constants import constant
from pcperc.registry import MODELS

# What each prediction branch gives, in the order of BoxCoder's code.
BOX_BRANCHES = {"center": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}
# Log-odds of 0.1: most cells and proposals are background, and a short training need not first learn that.
PRIOR_LOGIT = -2.19


class PredictionBranches(nn.ModuleDict):
    """Two 1 x 1 convolutions for each part of a box and for its class."""

    def __init__(self, channels: int, num_classes: int, mid_channels: int):
        def branch(width: int) -> nn.Sequential:
            hidden = [nn.Conv1d(channels, mid_channels, 1, bias=False), nn.BatchNorm1d(mid_channels), nn.ReLU(True)]
            return nn.Sequential(*hidden, nn.Conv1d(mid_channels, width, 1))

        super().__init__({name: branch(width) for name, width in (BOX_BRANCHES | {"heatmap": num_classes}).items()})
        nn.init.constant_(self["heatmap"][-1].bias, PRIOR_LOGIT)

    def forward(self, queries: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Turn queries (B, C, P) at positions (B, 2, P) into codes (B, P, 10) and logits (B, P, classes), float32."""
        parts = [self[name](queries).float() for name in BOX_BRANCHES]
        parts[0] = parts[0] + positions  # in float32: half precision cannot hold 100-odd cells and a fraction
        return torch.cat(parts, 1).transpose(1, 2), self["heatmap"](queries).float().transpose(1, 2)


@MODELS.register_module()
class TransFusionHead(nn.Module):
    """Detect objects on a bird's-eye-view map (B, in_channels, X, Y).

    Args:
        in_channels: channels of the map.
        num_classes: object classes.
        box_coder: codes boxes; its grid is the map's.
        criterion: compares with the truth; needed for ``loss`` only.
        hidden_channels: width of the shared map and of the queries.
        num_proposals: queries per sample, in training too.
        num_decoder_layers: transformer layers; each has its own prediction branches and losses.
        num_heads, ffn_channels, dropout: of the transformer.
        branch_channels: hidden width of the prediction branches.
        peak_kernel: side of the window in which a proposal must be the heatmap's maximum, odd.
        crowded_classes: small classes whose neighbouring cells may all be proposals (window of one cell).
        bn_momentum: of every batch norm of the head.
        score_threshold: predictions must score more.
        post_range: (x0, y0, z0, x1, y1, z1) metres, where centres of predictions must lie.
        circle_nms_distance: class index to metres within which a lower-scored box of that class is dropped; the
            published evaluation uses none.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        box_coder: BoxCoder,
        criterion: TransFusionLoss | None = None,
        *,
        hidden_channels: int = 128,
        num_proposals: int = 200,
        num_decoder_layers: int = 1,
        num_heads: int = 8,
        ffn_channels: int = 256,
        dropout: float = 0.1,
        branch_channels: int = 64,
        peak_kernel: int = 3,
        crowded_classes: tuple[int, ...] = (8, 9),
        bn_momentum: float = 0.1,
        score_threshold: float = 0.0,
        post_range: tuple[float, ...] = (-61.2, -61.2, -10.0, 61.2, 61.2, 10.0),
        circle_nms_distance: dict[int, float] | None = None,
    ):
        super().__init__()
        if peak_kernel % 2 == 0 or peak_kernel > min(box_coder.grid_shape):
            raise ValueError(f"TransFusionHead: peak_kernel must be odd and fit the grid, got {peak_kernel}")
        cells = box_coder.grid_shape[0] * box_coder.grid_shape[1]
        if not 0 < num_proposals <= num_classes * cells:
            raise ValueError(f"TransFusionHead: num_proposals must be in 1..{num_classes * cells}, got {num_proposals}")
        if any(not 0 <= label < num_classes for label in crowded_classes):
            raise ValueError(f"TransFusionHead: crowded_classes must be below {num_classes}, got {crowded_classes}")
        self.box_coder, self.criterion = box_coder, criterion
        self.num_classes, self.num_proposals = num_classes, num_proposals
        self.peak_kernel = peak_kernel
        self.score_threshold, self.post_range = score_threshold, tuple(post_range)
        self.circle_nms_distance = dict(circle_nms_distance or {})

        self.shared_conv = nn.Conv2d(in_channels, hidden_channels, 3, padding=1)
        self.heatmap_head = nn.Sequential(
            ConvNormReLU(hidden_channels, hidden_channels, 3), nn.Conv2d(hidden_channels, num_classes, 3, padding=1)
        )
        nn.init.constant_(self.heatmap_head[-1].bias, PRIOR_LOGIT)
        self.class_encoding = nn.Conv1d(num_classes, hidden_channels, 1)
        transformer = dict(num_heads=num_heads, ffn_channels=ffn_channels, dropout=dropout)
        layers = range(num_decoder_layers)
        self.decoder = nn.ModuleList(TransFusionDecoderLayer(hidden_channels, **transformer) for _ in layers)
        self.prediction_heads = nn.ModuleList(
            PredictionBranches(hidden_channels, num_classes, branch_channels) for _ in layers
        )
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = bn_momentum
        axes = [torch.arange(size, dtype=torch.float32) + 0.5 for size in box_coder.grid_shape]
        positions = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)[None]
        self.register_buffer("cell_positions", positions, persistent=False)  # (1, 2, X * Y), in cells
        is_crowded = torch.zeros(num_classes, 1, 1, dtype=torch.bool)
        is_crowded[list(crowded_classes)] = True
        self.register_buffer("is_crowded", is_crowded, persistent=False)

    def forward(self, bev: Tensor) -> HeadOutput:
        """Map (B, in_channels, X, Y) to proposals.

        Raises:
            ValueError: the map is not the box coder's grid.
        """
        if tuple(bev.shape[2:]) != self.box_coder.grid_shape:
            raise ValueError(
                f"TransFusionHead: bev must be (B, C, {self.box_coder.grid_shape[0]}, {self.box_coder.grid_shape[1]}), "
                f"got {tuple(bev.shape)}"
            )
        shared = self.shared_conv(bev)
        heatmap = self.heatmap_head(shared)
        cells = shared.flatten(2).transpose(1, 2)  # (B, X * Y, C)

        labels, cell_index, scores = self.select_proposals(heatmap)
        one_hot = F.one_hot(labels, self.num_classes).to(cells.dtype).transpose(1, 2)
        queries = cells.gather(1, cell_index[..., None].expand(-1, -1, cells.shape[2]))
        queries = queries + self.class_encoding(one_hot).transpose(1, 2)
        positions = self.cell_positions[0].T[cell_index].transpose(1, 2)  # (B, 2, P)

        codes, logits = [], []
        for layer, branches in zip(self.decoder, self.prediction_heads, strict=True):
            queries = layer(queries, cells, positions, self.cell_positions)
            code, logit = branches(queries.transpose(1, 2), positions)
            codes.append(code)
            logits.append(logit)
            positions = code[..., :2].detach().transpose(1, 2)
        return HeadOutput(heatmap, labels, scores, codes, logits)

    @torch.no_grad()
    def select_proposals(self, heatmap: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take the highest local maxima over all classes and cells.

        The outermost ring of cells gives no proposal except of ``crowded_classes``, as published.

        Returns:
            (B, P) class, (B, P) cell = x * Y + y, (B, P) heatmap value in float32, highest first.
        """
        values = heatmap.detach().float().sigmoid()
        ring = (self.peak_kernel // 2,) * 4
        is_peak = values == F.pad(F.max_pool2d(values, self.peak_kernel, stride=1), ring)
        flat = (values * (is_peak | self.is_crowded)).flatten(1)
        scores, index = flat.topk(self.num_proposals, dim=1)
        num_cells = values.shape[2] * values.shape[3]
        return index // num_cells, index % num_cells, scores

    def loss(self, output: HeadOutput, samples: list[dict]) -> dict[str, Tensor]:
        """Compare with the true ``boxes`` (K, 9) and ``labels`` (K,) of each sample; see TransFusionLoss."""
        if self.criterion is None:
            raise ValueError("TransFusionHead: criterion must be given to compute a loss, got None")
        return self.criterion(output, samples, self.box_coder)

    @torch.no_grad()
    def predict(self, output: HeadOutput) -> list[Detections]:
        """Turn proposals into detections, highest score first, in the frame of the map.

        The class is that of the proposal's heatmap peak; the score is the peak's value times the sigmoid of the
        last layer's logit of that class.
        """
        boxes = self.box_coder.decode(output.codes[-1])
        scores = output.logits[-1].gather(2, output.query_labels[..., None])[..., 0].sigmoid() * output.query_scores
        low, high = constant(self.post_range[:3], boxes), constant(self.post_range[3:], boxes)
        keep = (scores > self.score_threshold) & ((boxes[..., :3] >= low) & (boxes[..., :3] <= high)).all(-1)
        results = []
        for i in range(len(boxes)):
            order = scores[i].argsort(descending=True, stable=True)
            order = order[keep[i][order]]
            result = Detections(boxes[i][order], scores[i][order], output.query_labels[i][order])
            results.append(self._suppress(result))
        return results

    def _suppress(self, detections: Detections) -> Detections:
        """Drop lower-scored boxes near higher ones of the classes in ``circle_nms_distance``."""
        if not self.circle_nms_distance:
            return detections
        keep = torch.ones_like(detections.labels, dtype=torch.bool)
        for label, distance in self.circle_nms_distance.items():
            rows = (detections.labels == label).nonzero()[:, 0]
            centers, scores = detections.boxes[rows, :2].contiguous(), detections.scores[rows]
            kept = ops.circle_nms(centers, scores, min_distance=distance)
            keep[rows] = False
            keep[rows[kept]] = True
        return detections.filter(keep)
