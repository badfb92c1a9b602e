# SPDX-License-Identifier: Apache-2.0
"""Features from points to voxels and back."""

from pcperc import ops
from pcperc.nn._checks import check_points
from pcperc.ops._checks import check_choice
from pcperc.sparse import PointTensor, SparseTensor
from pcperc.sparse.point_tensor import DEVOXELIZATIONS


def point_to_voxel(points: PointTensor, target: SparseTensor | None = None) -> SparseTensor:
    """Average the features of the points of each voxel.

    Args:
        points: (N, C) features. Differentiable.
        target: the voxels that are wanted, a point in none of them is left out; None makes those that hold a point, on
            an unbounded lattice, sorted by key.
    Returns:
        SparseTensor (M, C) on the voxels of target, with its kernel maps, or on those of the points; 0 in a voxel
        without points. Sums are float32 (float64 for float64).
    Raises:
        TypeError: another type.
        ValueError: a target of other axes, batch_size or device, or of a fractional tensor_stride.
    Source: Liu, Tang, Lin and Han, "Point-Voxel CNN for Efficient 3D Deep Learning", NeurIPS 2019, equation 2.
    Deterministic: yes, forward and backward, on CPU and CUDA. Differentiable any number of times.
    """
    check_points("point_to_voxel", points)
    if target is None:
        topology, kernel_maps = points.voxels(), points.kernel_maps
    else:
        _check_sparse("point_to_voxel", "target", target)
        topology, kernel_maps = target.topology, target.kernel_maps
    feats = ops.segment_mean(points.feats, points.segments(topology))
    return SparseTensor.on_topology(topology, feats, kernel_maps)


def voxel_to_point(
    x: SparseTensor, points: PointTensor, mode: str = "trilinear", *, quantized: bool = False
) -> PointTensor:
    """Read the features of voxels at points.

    A voxel's value sits in the middle of its cell. A voxel that is missing takes no part: the weights of a point are
    divided by the sum of those of its voxels that are there, as in the published networks.

    Args:
        x: (M, C) features. Differentiable.
        points: where to read; its own features take no part.
        mode: "trilinear", linearly along each axis from the 2^D voxels whose middles are around the point; or
            "nearest", from the voxel that the point lies in.
        quantized: read as the published SPVCNN and SPVNAS do, for weights that were trained so. There a point is the
            index of its finest voxel, without its fraction, and a voxel's value sits at its lower corner, ``index *
            tensor_stride``: at the finest spacing each point then takes its voxel's value.
    Returns:
        PointTensor (N, C) in the dtype of x; 0 for a point that finds no voxel.
    Raises:
        TypeError: another type.
        ValueError: an unknown mode; voxels of other axes, batch_size or device, or of a fractional tensor_stride.
    Source: Tang et al., "Searching Efficient 3D Architectures with Sparse Point-Voxel Convolution", ECCV 2020, section
        3.1; that weights are renormalised, and where values sit, from the code published with it.
    Deterministic: yes, forward and backward, on CPU and CUDA. Differentiable any number of times.
    """
    _check_sparse("voxel_to_point", "x", x)
    check_points("voxel_to_point", points)
    check_choice("voxel_to_point", "mode", mode, DEVOXELIZATIONS)
    plan = points.interpolation_plan(x.topology, mode, quantized=quantized)
    return points.replace(feats=ops.weighted_gather(x.feats, plan))


def _check_sparse(op: str, name: str, value: object) -> None:
    if not isinstance(value, SparseTensor):
        raise TypeError(f"{op}: {name} must be a SparseTensor, got {type(value).__name__}")
