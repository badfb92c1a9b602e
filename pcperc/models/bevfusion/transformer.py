# SPDX-License-Identifier: Apache-2.0
"""The decoder layer with which object queries gather features from the bird's-eye view."""

import torch
from torch import Tensor, nn


class PositionEmbedding(nn.Module):
    """Learned embedding of positions: (B, 2, N) -> (B, N, channels), float32.

    It runs outside autocast: positions reach 180 cells and half precision would blur them by up to a cell.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(2, channels, 1), nn.BatchNorm1d(channels), nn.ReLU(inplace=True), nn.Conv1d(channels, channels, 1)
        )

    def forward(self, positions: Tensor) -> Tensor:
        with torch.autocast(positions.device.type, enabled=False):
            return self.layers(positions.float()).transpose(1, 2)


class TransFusionDecoderLayer(nn.Module):
    """Self-attention among queries, cross-attention to all BEV cells, feed-forward; norm after each.

    Position embeddings are added to queries, keys and values of both attentions. Attention goes through
    ``scaled_dot_product_attention``: the (B, heads, P, X * Y) weights are never stored where a fused kernel exists.

    Args:
        channels: width of queries and keys.
        num_heads: attention heads; divides ``channels``.
        ffn_channels: width inside the feed-forward part.
        dropout: of attention weights, of the feed-forward part and of every branch's result.
    Source: Bai et al., TransFusion, CVPR 2022, section 3.2, figure 2.
    """

    def __init__(self, channels: int, *, num_heads: int, ffn_channels: int, dropout: float):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, num_heads, dropout=dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(channels, num_heads, dropout=dropout, batch_first=True)
        self.linear1 = nn.Linear(channels, ffn_channels)
        self.linear2 = nn.Linear(ffn_channels, channels)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.dropout = nn.Dropout(dropout)
        self.self_posembed = PositionEmbedding(channels)
        self.cross_posembed = PositionEmbedding(channels)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, queries: Tensor, cells: Tensor, query_positions: Tensor, cell_positions: Tensor) -> Tensor:
        """Refine the queries.

        Args:
            queries: (B, P, C).
            cells: (B, X * Y, C).
            query_positions: (B, 2, P) in cells.
            cell_positions: (1, 2, X * Y) in cells; one embedding serves the whole batch.
        Returns:
            (B, P, C).
        """
        query_embedding = self.self_posembed(query_positions)
        placed = queries + query_embedding
        attended = self.self_attn(placed, placed, placed, need_weights=False)[0]
        queries = self.norm1(queries + self.dropout(attended))

        memory = cells + self.cross_posembed(cell_positions)
        attended = self.multihead_attn(queries + query_embedding, memory, memory, need_weights=False)[0]
        queries = self.norm2(queries + self.dropout(attended))

        hidden = self.dropout(self.linear1(queries).relu())
        return self.norm3(queries + self.dropout(self.linear2(hidden)))
