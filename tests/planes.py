# SPDX-License-Identifier: Apache-2.0
"""The smallest network of points, for tests of what stands around one."""

import torch
from torch import nn

from pcperc.sparse import PointTensor


class Planes(nn.Module):
    """A network whose logits are a fixed linear function of the features: a class is a direction."""

    def __init__(self, classes: int = 3):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, classes, generator=torch.Generator().manual_seed(0)))

    def forward(self, points: PointTensor) -> PointTensor:
        return points.replace(feats=points.feats @ self.weight)
