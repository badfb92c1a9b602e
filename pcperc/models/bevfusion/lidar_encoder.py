# SPDX-License-Identifier: Apache-2.0
"""The LiDAR branch of BEVFusion: SECOND's sparse encoder with residual blocks.

Source: Yan et al., SECOND, Sensors 18 (10), 2018; as in BEVFusion's released configuration (Liu et al., ICRA 2023).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from pcperc import nn as spnn
from pcperc.nn.residual import norm_and_activation
from pcperc.registry import MODELS
from pcperc.sparse import SparseTensor


class SparseBasicBlock(nn.Module):
    """Two submanifold 3 x 3 x 3 convolutions with a shortcut past both, under the names that checkpoints have."""

    def __init__(self, channels: int, **norm):
        super().__init__()
        self.conv1 = spnn.SubMConv3d(channels, channels, 3, bias=False)
        self.bn1 = spnn.BatchNorm(channels, **norm)
        self.conv2 = spnn.SubMConv3d(channels, channels, 3, bias=False)
        self.bn2 = spnn.BatchNorm(channels, **norm)
        self.relu = spnn.ReLU()

    def forward(self, voxels: SparseTensor) -> SparseTensor:
        out = norm_and_activation(self.conv1(voxels), self.bn1, self.relu)
        return norm_and_activation(self.conv2(out), self.bn2, self.relu, voxels)

    def to_conv_blocks(self) -> nn.Module:
        """The same of ConvBlocks, with these parameters: what ``pcperc.nn.fuse`` takes."""
        block1 = spnn.ConvBlock(self.conv1, self.bn1, self.relu)
        return spnn.ResidualBlock.of(block1, spnn.ConvBlock(self.conv2, self.bn2, self.relu))


@MODELS.register_module()
class SparseEncoder(nn.Module):
    """Voxels to a bird's-eye-view map: residual stages with strided convolutions between them, then z folded away.

    Args:
        in_channels: channels of a voxel (x, y, z, intensity, time lag).
        stem_channels: channels after the first convolution.
        stages: per stage the channels of its residual blocks and, in all but the last stage, of the strided
            convolution that ends it. A block keeps its channels, so the entries before the last must be those that
            come in.
        strided_paddings: padding of each strided convolution, one number or one each for x, y and z.
        out_channels: channels after the last convolution, which only looks along z (kernel 3, stride 2).
        norm_eps, norm_momentum: of the batch norms.
    Raises:
        ValueError: channels that do not follow each other, or another number of paddings.
    """

    def __init__(
        self,
        in_channels: int = 5,
        *,
        stem_channels: int = 16,
        stages: Sequence[Sequence[int]] = ((16, 16, 32), (32, 32, 64), (64, 64, 128), (128, 128)),
        strided_paddings: Sequence[int | Sequence[int]] = (1, 1, (1, 1, 0)),
        out_channels: int = 128,
        norm_eps: float = 1e-3,
        norm_momentum: float = 0.01,
    ):
        super().__init__()
        if len(strided_paddings) != len(stages) - 1:
            raise ValueError(f"SparseEncoder: strided_paddings must be {len(stages) - 1}, got {len(strided_paddings)}")
        norm = dict(eps=norm_eps, momentum=norm_momentum)
        self.conv_input = nn.Sequential(
            spnn.SubMConv3d(in_channels, stem_channels, 3, bias=False),
            spnn.BatchNorm(stem_channels, **norm),
            spnn.ReLU(),
        )
        self.encoder_layers = nn.ModuleList()
        channels = stem_channels
        for index, widths in enumerate(stages):
            is_last = index == len(stages) - 1
            blocks, end = (widths, channels) if is_last else (widths[:-1], widths[-1])
            if any(width != channels for width in blocks):
                raise ValueError(f"SparseEncoder: stages[{index}] must keep {channels} channels, got {tuple(widths)}")
            layers = [SparseBasicBlock(channels, **norm) for _ in blocks]
            if not is_last:
                padding = strided_paddings[index]
                padding = padding if isinstance(padding, int) else tuple(padding)
                layers += [
                    spnn.SparseConv3d(channels, end, 3, stride=2, padding=padding, bias=False),
                    spnn.BatchNorm(end, **norm),
                    spnn.ReLU(),
                ]
            self.encoder_layers.append(nn.Sequential(*layers))
            channels = end
        self.conv_out = nn.Sequential(
            spnn.SparseConv3d(channels, out_channels, (1, 1, 3), stride=(1, 1, 2), bias=False),
            spnn.BatchNorm(out_channels, **norm),
            spnn.ReLU(),
        )

    def forward(self, inputs: dict) -> Tensor:
        """Encode ``inputs["voxels"]``, a SparseTensor of feats (M, in_channels) with a ``spatial_shape``; M may be 0.

        Returns:
            (B, out_channels * Z, X, Y); channel c of height z is at c * Z + z. At the full size (1440, 1440, 41) voxels
            become 180 x 180 x 2.
        Raises:
            ValueError: there are no voxels in the batch.
        """
        if "voxels" not in inputs:
            raise ValueError(f"SparseEncoder: inputs must hold 'voxels' (a voxelizer makes them), got {sorted(inputs)}")
        voxels = self.conv_input(inputs["voxels"])
        for layer in self.encoder_layers:
            voxels = layer(voxels)
        grid = self.conv_out(voxels).dense()  # (B, C, X, Y, Z)
        return grid.permute(0, 1, 4, 2, 3).flatten(1, 2)
