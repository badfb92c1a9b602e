# SPDX-License-Identifier: Apache-2.0
"""Features of a sparse tensor at arbitrary points."""

from torch import Tensor, nn

from pcperc import ops
from pcperc.nn._checks import check_input
from pcperc.ops._checks import check_choice
from pcperc.ops.interpolate import INTERPOLATIONS
from pcperc.sparse import SparseTensor


class Interpolate(nn.Module):
    """Read a sparse tensor at points, from the nearest voxel or linearly from the voxels around each.

    Args:
        mode, renormalize: as in ``pcperc.ops.make_interpolation_plan``.
    Shape: SparseTensor with (M, C) features and points (P, 1 + D) float32 or float64 ``[batch, x, y, z]`` in cells of
        this tensor, where the value of a voxel sits at its index, to (P, C). Missing voxels count as 0. Differentiable
        in the features and, in mode "linear", in the points.
    Raises:
        TypeError: not a SparseTensor, or points no floating point tensor.
        ValueError: mode; wrong shape, dtype or device; repeated coords.

    For several tensors on the same voxels, make the plan once and call ``pcperc.ops.weighted_gather``.
    """

    def __init__(self, mode: str = "linear", *, renormalize: bool = False):
        super().__init__()
        check_choice("Interpolate", "mode", mode, INTERPOLATIONS)
        self.mode, self.renormalize = mode, renormalize

    def forward(self, x: SparseTensor, points: Tensor) -> Tensor:
        check_input(self, x)
        plan = ops.make_interpolation_plan(x.coords, points, mode=self.mode, renormalize=self.renormalize)
        return ops.weighted_gather(x.feats, plan)

    def extra_repr(self) -> str:
        return f"{self.mode}, renormalize={self.renormalize}"
