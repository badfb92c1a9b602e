# SPDX-License-Identifier: Apache-2.0
"""Data sets: one file each reads files and never augments; samples and batches are laid out in docs/conventions.md."""

from pcperc.datasets.argoverse2 import Argoverse2
from pcperc.datasets.calorimeter import CalorimeterHits
from pcperc.datasets.class_weights import class_weights, count_labels
from pcperc.datasets.collate import collate
from pcperc.datasets.gt_database import GTDatabase, build_gt_database
from pcperc.datasets.kitti_frustums import KITTIFrustums
from pcperc.datasets.kitti_object import KITTIObject
from pcperc.datasets.label_map import LabelMap
from pcperc.datasets.modelnet40 import ModelNet40
from pcperc.datasets.nuscenes import NuScenesDataset
from pcperc.datasets.nuscenes_index import gt_database_path, prepare_nuscenes
from pcperc.datasets.nuscenes_lidarseg import NuScenesLidarSeg
from pcperc.datasets.nuscenes_map import MAP_CLASSES, read_vector_map
from pcperc.datasets.nuscenes_record import CLASSES
from pcperc.datasets.nuscenes_tables import CAMERAS
from pcperc.datasets.s3dis import S3DIS, prepare_s3dis
from pcperc.datasets.s3dis_blocks import S3DISBlocks
from pcperc.datasets.sampling import ClassBalancedSampler, EpochSampler, SampleKey
from pcperc.datasets.scannet import ScanNet
from pcperc.datasets.semantickitti import SemanticKITTI
from pcperc.datasets.semantickitti_labels import LABEL_MAPS
from pcperc.datasets.shapenet_part import ShapeNetPart
from pcperc.datasets.waymo import Waymo

__all__ = [
    "Waymo",
    "Argoverse2",
    "CAMERAS",
    "CLASSES",
    "CalorimeterHits",
    "ClassBalancedSampler",
    "EpochSampler",
    "GTDatabase",
    "KITTIFrustums",
    "KITTIObject",
    "LABEL_MAPS",
    "LabelMap",
    "ModelNet40",
    "MAP_CLASSES",
    "NuScenesDataset",
    "NuScenesLidarSeg",
    "S3DIS",
    "S3DISBlocks",
    "SampleKey",
    "ScanNet",
    "SemanticKITTI",
    "ShapeNetPart",
    "build_gt_database",
    "class_weights",
    "collate",
    "count_labels",
    "gt_database_path",
    "prepare_nuscenes",
    "prepare_s3dis",
    "read_vector_map",
]
