# SPDX-License-Identifier: Apache-2.0
"""BEVFusion's head for map segmentation: what kind of ground each cell around the vehicle is.

Source: Liu et al., BEVFusion, ICRA 2023, section III-D; sizes as in its released configurations.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcperc.geometry import BEVGrid, MapPrediction
from pcperc.models.losses import binary_focal_loss
from pcperc.registry import MODELS


@MODELS.register_module()
class BEVGridTransform(nn.Module):
    """Read a map at the cell centres of another grid, bilinearly; beyond the outermost centres it fades to 0.

    The same as torch's ``grid_sample``, as two products of matrices, whose gradient repeats bit for bit on a GPU.

    Args:
        input_bounds, output_bounds: of x and of y: first edge, last edge and cell size, metres.
    Raises:
        ValueError: a bound that is no whole number of cells.
    """

    def __init__(self, input_bounds: Sequence[Sequence[float]], output_bounds: Sequence[Sequence[float]]):
        super().__init__()
        self.source, self.grid = BEVGrid(*map(tuple, input_bounds)), BEVGrid(*map(tuple, output_bounds))

    def forward(self, bev: Tensor) -> Tensor:
        """Map (B, C, X, Y) of the input's bounds to (B, C, X', Y').

        Raises:
            ValueError: a map of another size.
        """
        if tuple(bev.shape[-2:]) != self.source.shape:
            raise ValueError(
                f"BEVGridTransform: bev must be (B, C, {self.source.shape[0]}, {self.source.shape[1]}) for "
                f"input_bounds, got {tuple(bev.shape)}"
            )
        along_x = _interpolation(self.source.x_bound, self.grid.x_bound, like=bev)
        along_y = _interpolation(self.source.y_bound, self.grid.y_bound, like=bev)
        return along_x @ bev @ along_y.mT


def _interpolation(source: Sequence[float], target: Sequence[float], *, like: Tensor) -> Tensor:
    """Return the weights (target cells, source cells) of linear interpolation between cell centres along one axis."""
    cells, wanted = (
        torch.arange(round((last - first) / step), dtype=torch.float64, device=like.device)
        for first, last, step in (source, target)
    )
    index = (target[0] + (wanted + 0.5) * target[2] - source[0]) / source[2] - 0.5
    return (1 - (index[:, None] - cells).abs()).clamp(min=0).to(like.dtype)


@MODELS.register_module()
class BEVSegmentationHead(nn.Module):
    """Two 3 x 3 convolutions and a 1 x 1 one; a focal loss for each class, none excludes another.

    4.72M parameters for 512 channels (LiDAR, camera + LiDAR), 1.18M for 256 (camera); their names are the published
    ones.

    Args:
        in_channels: channels of the decoder's map.
        classes: names, in the order of the masks.
        grid_transform: from the decoder's grid to that of the masks.
        focal_gamma: how fast cells that are right fade from the loss.
    """

    def __init__(
        self,
        *,
        in_channels: int = 512,
        classes: Sequence[str],
        grid_transform: BEVGridTransform,
        focal_gamma: float = 2.0,
    ):
        super().__init__()
        self.classes, self.focal_gamma = tuple(classes), float(focal_gamma)
        self.transform = grid_transform
        self.classifier = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels, in_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels, len(self.classes), 1),
        )

    def forward(self, bev: Tensor) -> Tensor:
        """Map (B, in_channels, X, Y) of the decoder to logits (B, classes, X', Y')."""
        return self.classifier(self.transform(bev))

    def loss(self, logits: Tensor, samples: list[dict]) -> dict[str, Tensor]:
        """Return ``loss_<class>`` for each class, the mean over all cells; their sum is the published loss.

        Raises:
            ValueError: a sample without ``map_masks``, or with masks of another shape; the message names it.
        """
        for sample in samples:
            masks = sample.get("map_masks")
            if masks is None or tuple(masks.shape) != tuple(logits.shape[1:]):
                found = "none" if masks is None else tuple(masks.shape)
                raise ValueError(
                    f"BEVSegmentationHead: sample {sample.get('sample_token')} must have map_masks of "
                    f"{tuple(logits.shape[1:])} (DrawMapMasks makes them), got {found}"
                )
        target = torch.stack([sample["map_masks"].to(logits.device, non_blocking=True) for sample in samples])
        return {
            f"loss_{name}": binary_focal_loss(logits[:, index], target[:, index], gamma=self.focal_gamma)
            for index, name in enumerate(self.classes)
        }

    def predict(self, logits: Tensor) -> list[MapPrediction]:
        """Return the probabilities of each sample, float32 or wider, in the frame of the points."""
        probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()
        return [MapPrediction(values, self.transform.grid) for values in probabilities]
