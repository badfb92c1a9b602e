# SPDX-License-Identifier: Apache-2.0
"""Operators on plain tensors: one file a concept, the same stem in csrc/, tests/ops/ and here."""

from pcperc.ops import _library as _library
from pcperc.ops.bev_pool import BevPoolPlan as BevPoolPlan
from pcperc.ops.bev_pool import bev_pool as bev_pool
from pcperc.ops.bev_pool import make_bev_pool_plan as make_bev_pool_plan
from pcperc.ops.box_iou import box_iou_3d as box_iou_3d
from pcperc.ops.box_iou import box_iou_bev as box_iou_bev
from pcperc.ops.box_iou import circle_nms as circle_nms
from pcperc.ops.box_iou import nms_bev as nms_bev
from pcperc.ops.kernel_map import build_kernel_map as build_kernel_map
from pcperc.ops.kernel_map import reverse_kernel_map as reverse_kernel_map
from pcperc.ops.points_in_boxes import points_in_boxes as points_in_boxes
from pcperc.ops.points_in_boxes import points_in_boxes_mask as points_in_boxes_mask
from pcperc.ops.sparse_conv import sparse_conv as sparse_conv
from pcperc.ops.sparse_conv import sparse_conv_fused as sparse_conv_fused
from pcperc.ops.unique_coords import UniqueCoords as UniqueCoords
from pcperc.ops.unique_coords import downsample_coords as downsample_coords
from pcperc.ops.unique_coords import unique_coords as unique_coords
from pcperc.ops.unique_coords import upsample_coords as upsample_coords
from pcperc.ops.voxelize import HardMeanVoxels as HardMeanVoxels
from pcperc.ops.voxelize import HardVoxels as HardVoxels
from pcperc.ops.voxelize import MeanVoxels as MeanVoxels
from pcperc.ops.voxelize import voxel_grid_shape as voxel_grid_shape
from pcperc.ops.voxelize import voxelize_hard as voxelize_hard
from pcperc.ops.voxelize import voxelize_hard_mean as voxelize_hard_mean
from pcperc.ops.voxelize import voxelize_mean as voxelize_mean
