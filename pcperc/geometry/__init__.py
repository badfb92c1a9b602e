# SPDX-License-Identifier: Apache-2.0
"""Boxes, 4 x 4 matrices and the kinds of predictions. Imports nothing else of pcperc; everything may import it."""

from pcperc.geometry.boxes import (
    BOX_EDGES,
    FRONT_FACE,
    box_corners,
    boxes_from_nuscenes,
    boxes_to_nuscenes,
    transform_boxes,
    wrap_angle,
)
from pcperc.geometry.cloud_class import CloudClass
from pcperc.geometry.detections import Detections
from pcperc.geometry.hit_clusters import HitClusters
from pcperc.geometry.matrices import (
    invert_rigid,
    matrix_to_quaternion,
    project_points,
    quaternion_to_matrix,
    rigid_matrix,
    rotation_z,
    to_homogeneous,
    transform_points,
)
from pcperc.geometry.point_labels import IGNORED, PointLabels
from pcperc.geometry.tracks import Tracks

__all__ = [
    "BOX_EDGES",
    "FRONT_FACE",
    "IGNORED",
    "CloudClass",
    "Detections",
    "HitClusters",
    "PointLabels",
    "Tracks",
    "box_corners",
    "boxes_from_nuscenes",
    "boxes_to_nuscenes",
    "invert_rigid",
    "matrix_to_quaternion",
    "project_points",
    "quaternion_to_matrix",
    "rigid_matrix",
    "rotation_z",
    "to_homogeneous",
    "transform_boxes",
    "transform_points",
    "wrap_angle",
]
