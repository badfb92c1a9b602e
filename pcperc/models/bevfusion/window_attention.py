# SPDX-License-Identifier: Apache-2.0
"""Self-attention within square windows of a map, for `swin.py`: windows cut and joined, and masks of shifted ones."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Zeros at the bottom and right of (N, H, W, C), so that H and W become multiples."""
    height, width = x.shape[1:3]
    bottom, right = -height % multiple, -width % multiple
    return F.pad(x, (0, 0, 0, right, 0, bottom)) if bottom or right else x


def split_windows(x: Tensor, window: int) -> Tensor:
    """(N, H, W, C) to (N * windows, window * window, C), windows row by row."""
    n, height, width, channels = x.shape
    x = x.view(n, height // window, window, width // window, window, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, window * window, channels)


def join_windows(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """The inverse of ``split_windows``."""
    x = windows.view(-1, height // window, width // window, window, window, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, windows.shape[-1])


def _relative_position_index(window: int) -> Tensor:
    """(T, T) row of the bias table for each pair of the T = window * window tokens of a window."""
    line = torch.arange(window)
    rows, columns = (grid.flatten() for grid in torch.meshgrid(line, line, indexing="ij"))
    row_shift = rows[:, None] - rows[None, :] + window - 1
    column_shift = columns[:, None] - columns[None, :] + window - 1
    return row_shift * (2 * window - 1) + column_shift


def shifted_window_mask(height: int, width: int, *, window: int, shift: int, device=None) -> Tensor:
    """Keep apart the tokens that only the cyclic shift has brought into one window.

    Args:
        height, width: size of the padded map in tokens, multiples of ``window``.
        window: side of a window in tokens.
        shift: tokens by which the map was rolled to the upper left, in (0, window).

    Returns:
        (windows, T, T) float32 to add to the attention scores: 0 where two tokens of a window were neighbours
        before the roll, -inf where they were not. T = window * window; no row is all -inf.
    """

    def band(size: int) -> Tensor:
        line = torch.arange(size, device=device)
        return (line >= size - window).long() + (line >= size - shift).long()

    region = 3 * band(height)[:, None] + band(width)[None, :]
    region = split_windows(region[None, :, :, None], window).squeeze(-1)
    apart = region[:, :, None] != region[:, None, :]
    return torch.zeros(apart.shape, device=device).masked_fill_(apart, float("-inf"))


class WindowAttention(nn.Module):
    """Multi-head self-attention within a window, with a learned bias for each relative position."""

    def __init__(self, channels: int, num_heads: int, window: int):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (channels // num_heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, num_heads))
        self.register_buffer("relative_position_index", _relative_position_index(window), persistent=False)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N * windows, T, C) to the same; ``mask`` (windows, T, T) is added to the scores."""
        count, tokens, channels = x.shape
        qkv = self.qkv(x).view(count, tokens, 3, self.num_heads, channels // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        scores = (query * self.scale) @ key.transpose(-2, -1)  # (N * windows, heads, T, T)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)  # (heads, T, T)
        if mask is not None:
            bias = bias + mask[:, None].to(bias.dtype)  # (windows, heads, T, T)
            scores = scores.view(-1, *bias.shape)
        scores = (scores + bias).view(count, self.num_heads, tokens, tokens)
        out = scores.softmax(-1) @ value
        return self.proj(out.transpose(1, 2).reshape(count, tokens, channels))
