# SPDX-License-Identifier: Apache-2.0
"""What each evaluation is called, which config it takes by default, and what its metric can be asked for."""

from pathlib import Path

from pcperc.evaluation import (
    Argoverse2Metric,
    CalorimeterMetric,
    ClassificationMetric,
    KITTIMetric,
    LidarSegMetric,
    MapMetric,
    NuScenesMetric,
    NuScenesTrackingMetric,
    S3DISMetric,
    SegmentationMetric,
    SemanticKITTIMetric,
    ShapeNetPartMetric,
    WaymoMetric,
)

# By the names of --eval; bbox is what the original repository calls the evaluation of nuScenes.
EVALUATIONS = {
    "nuscenes": NuScenesMetric,
    "bbox": NuScenesMetric,
    "tracking": NuScenesTrackingMetric,
    "argoverse2": Argoverse2Metric,
    "waymo": WaymoMetric,
    "semantickitti": SemanticKITTIMetric,
    "lidarseg": LidarSegMetric,
    "map": MapMetric,
    "shapenet": ShapeNetPartMetric,
    "s3dis": S3DISMetric,
    "kitti": KITTIMetric,
    "modelnet": ClassificationMetric,
    "calo": CalorimeterMetric,
}
DEFAULT_CONFIGS = {
    "argoverse2": Path("configs/argoverse2/argoverse2_lidar.py"),
    "waymo": Path("configs/waymo/waymo_lidar.py"),
    "map": Path("configs/bevfusion/fusion_map.py"),
    "semantickitti": Path("configs/spvcnn.py"),
    "shapenet": Path("configs/pvcnn.py"),
    "s3dis": Path("configs/pvcnn/s3dis_c1.py"),
    "kitti": Path("configs/pvcnn/kitti_frustum.py"),
    "modelnet": Path("configs/pvcnn/modelnet40.py"),
    "lidarseg": Path("configs/spvnas/spvcnn_lidarseg.py"),
    "calo": Path("configs/calo_spvcnn.py"),
}
# What takes a folder for files.
WITH_FILES = (
    NuScenesMetric,
    MapMetric,
    SegmentationMetric,
    ShapeNetPartMetric,
    KITTIMetric,
    CalorimeterMetric,
    Argoverse2Metric,
    WaymoMetric,
)
# What can write its results and score nothing.
WITH_FORMAT_ONLY = (SegmentationMetric, KITTIMetric, Argoverse2Metric)
