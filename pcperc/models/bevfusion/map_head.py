# SPDX-License-Identifier: Apache-2.0
"""BEVFusion's head for map segmentation: what kind of ground each cell around the vehicle is.

Source: Liu et al., BEVFusion, ICRA 2023, section III-D; sizes as in its released configurations.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcperc.geometry import BEVGrid, MapPrediction
from pcperc.models.losses import binary_focal_loss
from pcperc.registry import MODELS


@MODELS.register_module()
class BEVGridTransform(nn.Module):
    """Read a map at the cell centres of another grid, bilinearly; beyond the outermost centres it fades to 0.

    Args:
        input_bounds, output_bounds: of x and of y: first edge, last edge and cell size, metres.
    Raises:
        ValueError: a bound that is no whole number of cells.
    """

    def __init__(self, input_bounds: Sequence[Sequence[float]], output_bounds: Sequence[Sequence[float]]):
        super().__init__()
        self.source, self.grid = BEVGrid(*map(tuple, input_bounds)), BEVGrid(*map(tuple, output_bounds))
        index = self.source.to_index(self.grid.centres())
        # grid_sample takes -1 and 1 for the outer edges of a map, and its last axis first.
        places = ((index + 0.5) / self.source.shape * 2 - 1)[..., ::-1]
        self.register_buffer("places", torch.from_numpy(places.astype(np.float32)), persistent=False)

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
        places = self.places.to(bev.dtype).expand(len(bev), -1, -1, -1)
        return F.grid_sample(bev, places, mode="bilinear", align_corners=False)


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
        target = torch.stack([sample["map_masks"] for sample in samples]).to(logits.device)
        return {
            f"loss_{name}": binary_focal_loss(logits[:, index], target[:, index], gamma=self.focal_gamma)
            for index, name in enumerate(self.classes)
        }

    def predict(self, logits: Tensor) -> list[MapPrediction]:
        """Return the probabilities of each sample, float32 or wider, in the frame of the points."""
        probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()
        return [MapPrediction(values, self.transform.grid) for values in probabilities]
