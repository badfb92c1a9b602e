# SPDX-License-Identifier: Apache-2.0
"""BEVFusion: camera and LiDAR fused in the bird's-eye view."""

from pcperc.models.bevfusion.bev_decoder import SECOND, SECONDFPN, BEVDecoder
from pcperc.models.bevfusion.box_coder import BoxCoder
from pcperc.models.bevfusion.camera_encoder import CameraEncoder
from pcperc.models.bevfusion.captured import capture_frame
from pcperc.models.bevfusion.center_head import CenterHead, CenterTask
from pcperc.models.bevfusion.center_loss import CenterLoss, CenterOutput
from pcperc.models.bevfusion.data_preprocessor import BEVFusionPreprocessor, HardVoxelizer
from pcperc.models.bevfusion.depth_view_transform import DepthLSSTransform
from pcperc.models.bevfusion.detection_votes import DetectionVotes
from pcperc.models.bevfusion.detector import BEVFusion
from pcperc.models.bevfusion.fuser import ConvFuser
from pcperc.models.bevfusion.generalized_resnet import LSSFPN, GeneralizedResNet
from pcperc.models.bevfusion.image_head import ImageHead
from pcperc.models.bevfusion.lidar_encoder import SparseEncoder
from pcperc.models.bevfusion.lss_fpn import GeneralizedLSSFPN
from pcperc.models.bevfusion.map_head import BEVGridTransform, BEVSegmentationHead
from pcperc.models.bevfusion.pillar_encoder import Pillars, PillarVoxelizer, PointPillarsEncoder
from pcperc.models.bevfusion.swin import SwinTransformer
from pcperc.models.bevfusion.target_assigner import HungarianAssigner
from pcperc.models.bevfusion.transfusion_head import TransFusionHead
from pcperc.models.bevfusion.transfusion_loss import HeadOutput, TransFusionLoss
from pcperc.models.bevfusion.view_transform import LSSTransform

__all__ = [
    "BEVDecoder",
    "BEVFusion",
    "BEVFusionPreprocessor",
    "BEVGridTransform",
    "BEVSegmentationHead",
    "BoxCoder",
    "CameraEncoder",
    "CenterHead",
    "CenterLoss",
    "CenterOutput",
    "CenterTask",
    "ConvFuser",
    "DepthLSSTransform",
    "DetectionVotes",
    "GeneralizedLSSFPN",
    "GeneralizedResNet",
    "HardVoxelizer",
    "HeadOutput",
    "HungarianAssigner",
    "ImageHead",
    "LSSFPN",
    "LSSTransform",
    "PillarVoxelizer",
    "Pillars",
    "PointPillarsEncoder",
    "SECOND",
    "SECONDFPN",
    "SparseEncoder",
    "SwinTransformer",
    "TransFusionHead",
    "TransFusionLoss",
    "capture_frame",
]
