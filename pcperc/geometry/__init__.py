# SPDX-License-Identifier: Apache-2.0
"""Boxes, matrices, maps and the kinds of predictions. Imports nothing else of pcperc; everything may import it."""

from pcperc.geometry.bev_grid import BEVGrid, draw_lines, fill_areas, line_segments, ring_edges
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
    inverse,
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
from pcperc.geometry.vector_map import MapPrediction, VectorMap, world2lidar_plane

__all__ = [
    "BEVGrid",
    "BOX_EDGES",
    "FRONT_FACE",
    "IGNORED",
    "CloudClass",
    "Detections",
    "HitClusters",
    "MapPrediction",
    "PointLabels",
    "Tracks",
    "VectorMap",
    "box_corners",
    "boxes_from_nuscenes",
    "boxes_to_nuscenes",
    "draw_lines",
    "fill_areas",
    "inverse",
    "invert_rigid",
    "line_segments",
    "matrix_to_quaternion",
    "project_points",
    "quaternion_to_matrix",
    "rigid_matrix",
    "ring_edges",
    "rotation_z",
    "to_homogeneous",
    "transform_boxes",
    "transform_points",
    "world2lidar_plane",
    "wrap_angle",
]
