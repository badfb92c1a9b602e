# SPDX-License-Identifier: Apache-2.0
"""The convolutional fuser of BEVFusion."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcperc.models.blocks import ConvNormReLU
from pcperc.models.losses import mean_over_processes
from pcperc.registry import MODELS


@MODELS.register_module()
class ConvFuser(nn.Module):
    """Concatenate the bird's-eye views of all modalities and mix them by one 3 x 3 convolution.

    The convolution lets the features of one modality make up for a small shift against another's.

    Args:
        in_channels: channels of each modality's map, camera first.
        out_channels: channels of the fused map.
        passes: index of the modality whose map an untrained fuser hands on as if there were no other; None draws all
            weights at random, as published. The decoder and head of a LiDAR stage then go on from where they were:
            with random weights a short second stage spends its time on finding them again. A map >= 0, as the fuser's
            own ReLU leaves it, comes out as it went in from the first batch in training mode on, which sets the norm's
            weight and bias (all processes the same).
    Raises:
        ValueError: a modality to pass on that has not out_channels channels.
    Source: Liu et al., BEVFusion, ICRA 2023, section III-C.
    """

    def __init__(self, in_channels: Sequence[int] = (80, 256), out_channels: int = 256, *, passes: int | None = None):
        super().__init__()
        self.in_channels = tuple(in_channels)
        self.conv = ConvNormReLU(sum(in_channels), out_channels, 3)
        self._handed_on = passes  # until the first batch in training mode
        if passes is not None:
            self._pass_on(passes, out_channels)

    @torch.no_grad()
    def _pass_on(self, modality: int, out_channels: int) -> None:
        """Make the convolution the identity on one modality and zero on the others."""
        if not 0 <= modality < len(self.in_channels) or self.in_channels[modality] != out_channels:
            raise ValueError(
                f"ConvFuser: passes must be the index of a modality with {out_channels} channels, got {modality} for "
                f"in_channels {self.in_channels}"
            )
        first = sum(self.in_channels[:modality])
        self.conv.conv.weight.zero_()
        nn.init.dirac_(self.conv.conv.weight[:, first : first + out_channels])

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Fuse maps (B, in_channels[i], X, Y) into (B, out_channels, X, Y).

        Raises:
            ValueError: other channels than told, or maps of different sizes.
        """
        shapes = [tuple(feature.shape) for feature in features]
        same_grid = len({(shape[0], *shape[2:]) for shape in shapes}) == 1
        if tuple(shape[1] for shape in shapes) != self.in_channels or not same_grid:
            raise ValueError(
                f"ConvFuser: features must be (B, C, X, Y) of one grid with C = {self.in_channels}, got {shapes}"
            )
        if self.training:
            self._set_scale(features)
        return self.conv(torch.cat(list(features), 1))

    @torch.no_grad()
    def _set_scale(self, features: Sequence[Tensor]) -> None:
        """Let the norm of an untrained fuser give back the map that the convolution hands on."""
        handed_on, self._handed_on = self._handed_on, None
        norm = self.conv.norm
        if handed_on is None or norm.num_batches_tracked > 0:
            return
        passed = features[handed_on].float()
        mean, square = mean_over_processes(torch.stack([passed.mean((0, 2, 3)), passed.square().mean((0, 2, 3))]))
        norm.bias.copy_(mean)
        norm.weight.copy_(((square - mean.square()).clamp(min=0) + norm.eps).sqrt())
