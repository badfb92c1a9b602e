# SPDX-License-Identifier: Apache-2.0
"""Swin transformer: self-attention in windows that shift by half from block to block.

Source: Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, ICCV 2021.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pcperc.models.bevfusion.window_attention import (
    WindowAttention,
    join_windows,
    pad_to_multiple,
    shifted_window_mask,
    split_windows,
)
from pcperc.registry import MODELS


class DropPath(nn.Module):
    """Drop a residual branch for whole images, with the given probability; scale up what stays (training only)."""

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        kept = torch.rand((x.shape[0],) + (1,) * (x.ndim - 1), device=x.device) < keep
        return x * (kept.to(x.dtype) / keep)

    def extra_repr(self) -> str:
        return f"probability={self.probability:.3f}"


class SwinBlock(nn.Module):
    """Windowed attention and a two-layer perceptron, each normalised before and added to its input."""

    def __init__(self, channels: int, num_heads: int, *, window: int, shift: int, mlp_ratio: float, drop_path: float):
        super().__init__()
        self.window, self.shift = window, shift
        hidden = int(channels * mlp_ratio)
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, num_heads, window)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))
        self.drop_path = DropPath(drop_path)

    def _attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        height, width = x.shape[1:3]
        x = pad_to_multiple(x, self.window)
        padded_height, padded_width = x.shape[1:3]
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        windows = self.attn(split_windows(x, self.window), mask if self.shift else None)
        x = join_windows(windows, self.window, padded_height, padded_width)
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        return x[:, :height, :width]

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(N, H, W, C) to the same; ``mask`` is that of ``shifted_window_mask`` and unused by unshifted blocks."""
        x = x + self.drop_path(self._attend(self.norm1(x), mask))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    """Cut the image into square patches and embed each; the last row and column of patches are padded with zeros."""

    def __init__(self, in_channels: int, channels: int, patch_size: int):
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, channels, patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(channels)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, H / patch, W / patch, C), rounded up."""
        height, width = images.shape[-2:]
        images = F.pad(images, (0, -width % self.patch_size, 0, -height % self.patch_size))
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Halve the map: the four tokens of each 2 x 2 square become one of twice the channels.

    The four are put side by side in the order of the paper's code: upper left, lower left, upper right, lower right.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) to (N, H / 2, W / 2, 2 C), rounded up."""
        x = pad_to_multiple(x, 2)
        n, height, width, channels = x.shape
        x = x.view(n, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 4, 2, 5)
        return self.reduction(self.norm(x.reshape(n, height // 2, width // 2, 4 * channels)))


class SwinStage(nn.Module):
    """Blocks of one resolution, every second one shifted, and the merging that leads to the next stage."""

    def __init__(self, channels: int, num_heads: int, *, window: int, mlp_ratio: float, drop_paths, downsample: bool):
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(
            SwinBlock(
                channels,
                num_heads,
                window=window,
                shift=(i % 2) * (window // 2),
                mlp_ratio=mlp_ratio,
                drop_path=probability,
            )
            for i, probability in enumerate(drop_paths)
        )
        self.downsample = PatchMerging(channels) if downsample else None

    def forward(self, x: Tensor, *, with_checkpointing: bool) -> Tensor:
        """(N, H, W, C) to the same, before ``downsample``."""
        mask = None
        if any(block.shift for block in self.blocks):
            height, width = (size + -size % self.window for size in x.shape[1:3])
            mask = shifted_window_mask(height, width, window=self.window, shift=self.window // 2, device=x.device)
        for block in self.blocks:
            if with_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, mask, use_reentrant=False)
            else:
                x = block(x, mask)
        return x


@MODELS.register_module()
class SwinTransformer(nn.Module):
    """Swin transformer that returns the maps of some of its stages. The defaults are Swin-T: 27.52M parameters.

    Args:
        embed_channels: channels of stage 0; each later stage has twice those of the one before.
        depths: blocks of each stage.
        num_heads: attention heads of each stage; they divide its channels.
        window_size: side of a window in tokens. Maps are padded with zeros at the bottom and right to whole windows.
            Windows shift also where one covers the whole map, as in mmdet; torchvision and timm do not shift there.
        patch_size: side of a patch in pixels. Stage i has the stride ``patch_size * 2**i``.
        mlp_ratio: hidden channels of the perceptrons, as a multiple of the stage's.
        drop_path: probability to drop a residual branch in the last block; it grows linearly from 0 in the first.
        out_stages: stages whose output is returned, each through a layer norm of its own; the last is among them.
        in_channels: channels of the image.
        with_checkpointing: keep only the input of each block for the backward pass, and compute the rest again.

    Attributes:
        out_channels: channels of each returned map.
        out_strides: pixels of the image per cell of each returned map.

    Raises:
        ValueError: lists of different lengths, channels not divisible by heads, a stage that does not exist.
    """

    def __init__(
        self,
        *,
        embed_channels: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        patch_size: int = 4,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.2,
        out_stages: Sequence[int] = (1, 2, 3),
        in_channels: int = 3,
        with_checkpointing: bool = False,
    ):
        super().__init__()
        channels = [embed_channels * 2**i for i in range(len(depths))]
        if len(num_heads) != len(depths):
            raise ValueError(
                f"SwinTransformer: num_heads must have one entry a stage ({len(depths)}), got {len(num_heads)}"
            )
        for width, heads in zip(channels, num_heads, strict=True):
            if width % heads:
                raise ValueError(f"SwinTransformer: num_heads must divide the stage's {width} channels, got {heads}")
        last = len(depths) - 1
        ascending = sorted(set(out_stages) & set(range(last + 1)))
        if list(out_stages) != ascending or ascending[-1:] != [last]:
            raise ValueError(
                f"SwinTransformer: out_stages must be ascending stages that end with the last one, {last}, "
                f"got {tuple(out_stages)}"
            )
        self.in_channels = in_channels
        self.with_checkpointing = with_checkpointing
        self.out_stages = tuple(out_stages)
        self.out_channels = tuple(channels[i] for i in out_stages)
        self.out_strides = tuple(patch_size * 2**i for i in out_stages)

        self.patch_embed = PatchEmbed(in_channels, embed_channels, patch_size)
        last_block = max(sum(depths) - 1, 1)
        first_blocks = [sum(depths[:i]) for i in range(len(depths))]
        self.stages = nn.ModuleList(
            SwinStage(
                channels[i],
                num_heads[i],
                window=window_size,
                mlp_ratio=mlp_ratio,
                drop_paths=[drop_path * (first_blocks[i] + j) / last_block for j in range(depths[i])],
                downsample=i + 1 < len(depths),
            )
            for i in range(len(depths))
        )
        self.out_norms = nn.ModuleDict({str(i): nn.LayerNorm(channels[i]) for i in out_stages})
        self.apply(_init_linear)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute the maps of the out stages.

        Args:
            images: (N, in_channels, H, W) normalised images of any size >= 1.

        Returns:
            For each out stage i, (N, out_channels[i], H / stride, W / stride), rounded up.

        Raises:
            ValueError: images of another shape.
        """
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            raise ValueError(
                f"SwinTransformer: images must be (N, {self.in_channels}, H, W), got {tuple(images.shape)}"
            )
        x = self.patch_embed(images)
        outputs = []
        for i, stage in enumerate(self.stages):
            x = stage(x, with_checkpointing=self.with_checkpointing and self.training)
            if i in self.out_stages:
                outputs.append(self.out_norms[str(i)](x).permute(0, 3, 1, 2).contiguous())
            if stage.downsample is not None:
                x = stage.downsample(x)
        return outputs


def _init_linear(module: nn.Module) -> None:
    """Truncated normal weights of deviation 0.02, no bias, as published."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
