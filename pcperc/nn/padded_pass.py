# SPDX-License-Identifier: Apache-2.0
"""A pass of a network over padding, which is the same work for every cloud, and its results without padding."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pcperc.nn.capture_dense import map_tensors
from pcperc.sparse import PointTensor, SparseTensor
from pcperc.sparse.kernel_map_cache import KernelMapCache
from pcperc.sparse.padding import PADDING
from pcperc.sparse.topology import Topology


@dataclass(frozen=True)
class PaddedPass:
    """The results of a network over padding, and what tells whether they are right."""

    out: Any
    status: Tensor  # (2,) int64: whether voxels found no room, and the voxels of the output where it is a SparseTensor

    @classmethod
    def run(cls, model: nn.Module, x: SparseTensor | PointTensor) -> "PaddedPass":
        """Run the network on padded ``x``; nothing waits for a GPU.

        Raises:
            TypeError, ValueError: what the network gives has not a row for each point, or is no SparseTensor and has
                one for each voxel; says what it may give.
        """
        out = model(x)
        if isinstance(x, PointTensor):
            _map_parts(partial(_check_rows_of_points, padded=x), out)
        else:
            _check_of_voxels(out, x)
        incomplete = x.kernel_maps.incomplete
        overflow = torch.stack(incomplete).any() if incomplete else torch.zeros((), dtype=torch.bool, device=x.device)
        count = (out.coords[:, 0] != PADDING).sum() if isinstance(out, SparseTensor) else torch.zeros_like(overflow)
        return cls(out, torch.stack([overflow.long(), count.long()]))

    def result(self, x: SparseTensor | PointTensor, padded: SparseTensor | PointTensor) -> Any:
        """The output for ``x``, without padding, copied; None where voxels found no room. Waits for the GPU."""
        overflow, count = self.status.tolist()
        if overflow:
            return None
        if isinstance(x, PointTensor):
            return on_points(x, self.out)
        return _of_voxels(self.out, x, padded, count)


def on_points(x: PointTensor, out: Any) -> Any:
    """The results for the points of ``x``, which have the rows of ``x`` first: copied, and on its very points."""
    return _map_parts(partial(_rows_of_points, x=x), out)


def _of_voxels(out: SparseTensor | Tensor, x: SparseTensor, padded: SparseTensor, count: int) -> SparseTensor | Tensor:
    if isinstance(out, Tensor):
        return out.clone()
    feats, made = out.feats[:count].clone(), out.topology
    if made is padded.topology:
        return x.replace(feats=feats)
    coords = made.coords[:count].clone()
    topology = Topology(coords, made.batch_size, made.spatial_shape, made.tensor_stride, made_by_operator=True)
    return SparseTensor.on_topology(topology, feats, KernelMapCache())


def _check_of_voxels(out: Any, padded: SparseTensor) -> None:
    if not isinstance(out, SparseTensor | Tensor):
        raise TypeError(
            "capture: results of a network of voxels must be a SparseTensor or a tensor without a row for each voxel, "
            f"got {type(out).__name__}"
        )
    if isinstance(out, Tensor) and out.shape[:1] == padded.coords.shape[:1]:
        raise ValueError(
            "capture: results of a network of voxels must be a SparseTensor or a tensor without a row for each voxel, "
            f"got {tuple(out.shape)} for {len(padded)} voxels"
        )


def _check_rows_of_points(value: Tensor | PointTensor, padded: PointTensor) -> None:
    if isinstance(value, PointTensor):
        if value.place is not padded.place:
            raise ValueError("capture: results of a network of points must be of the same points, got others")
    elif value.ndim == 0 or len(value) != padded.num_points:
        raise ValueError(
            f"capture: results of a network of points must have a row for each of the {padded.num_points} points, "
            f"got {tuple(value.shape)}"
        )


def _rows_of_points(value: Tensor | PointTensor, x: PointTensor) -> Tensor | PointTensor:
    if isinstance(value, PointTensor):
        return x.replace(feats=value.feats[: x.num_points].clone())
    return value[: x.num_points].clone()


_map_parts = partial(map_tensors, op="capture", leaves=Tensor | PointTensor)
