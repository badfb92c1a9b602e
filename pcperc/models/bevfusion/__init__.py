# SPDX-License-Identifier: Apache-2.0
"""BEVFusion: camera and LiDAR fused in the bird's-eye view."""

from pcperc.models.bevfusion.camera_encoder import CameraEncoder as CameraEncoder
from pcperc.models.bevfusion.lss_fpn import GeneralizedLSSFPN as GeneralizedLSSFPN
from pcperc.models.bevfusion.swin import SwinTransformer as SwinTransformer
from pcperc.models.bevfusion.view_transform import DepthLSSTransform as DepthLSSTransform
