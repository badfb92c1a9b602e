# SPDX-License-Identifier: Apache-2.0
"""Results files and official scores."""

from pcperc.evaluation.argoverse2 import Argoverse2Metric, evaluate_argoverse2, write_argoverse2_results
from pcperc.evaluation.classification_metric import ClassificationMetric
from pcperc.evaluation.cluster_metric import CalorimeterMetric, read_cluster_table
from pcperc.evaluation.cluster_response import (
    ClusterTable,
    CurveErrors,
    LeftOut,
    cluster_table,
    curve,
    curve_errors,
    left_out,
    segment_centres,
)
from pcperc.evaluation.cluster_scores import cluster_scores, count_event, format_cluster_scores
from pcperc.evaluation.clusters import Matches, count_matches, match_clusters, mean_qualities, qualities
from pcperc.evaluation.kitti import average_precision, format_kitti_scores, kitti_scores
from pcperc.evaluation.kitti_metrics import KITTIMetric, detections_to_objects, score_kitti_files
from pcperc.evaluation.map_segmentation import (
    THRESHOLDS,
    MapMetric,
    count_cells,
    format_map_scores,
    map_iou,
    map_scores,
)
from pcperc.evaluation.nuscenes import NuScenesMetric, evaluate_results, flat_metrics, format_summary
from pcperc.evaluation.nuscenes_results import (
    detections_to_rows,
    guess_attribute,
    read_results,
    rows_to_detections,
    write_results,
)
from pcperc.evaluation.nuscenes_tracking import (
    NuScenesTrackingMetric,
    SceneSample,
    evaluate_tracking,
    flat_tracking_metrics,
    format_tracking_summary,
    track_scenes,
)
from pcperc.evaluation.nuscenes_tracking_results import read_tracking_results, rows_to_tracks, write_tracking_results
from pcperc.evaluation.part_metrics import ShapeNetPartMetric
from pcperc.evaluation.parts import format_part_scores, part_scores, shape_iou
from pcperc.evaluation.room_metrics import S3DISMetric
from pcperc.evaluation.rooms import RoomVotes
from pcperc.evaluation.segmentation import confusion_matrix, format_scores, iou_per_class, mean_iou, scores_of
from pcperc.evaluation.segmentation_files import (
    read_semantickitti_predictions,
    score_semantickitti_files,
    write_lidarseg_predictions,
    write_semantickitti_predictions,
)
from pcperc.evaluation.segmentation_metrics import LidarSegMetric, SegmentationMetric, SemanticKITTIMetric
from pcperc.evaluation.waymo import WaymoMetric
from pcperc.evaluation.waymo_scores import waymo_scores

__all__ = [
    "WaymoMetric",
    "waymo_scores",
    "Argoverse2Metric",
    "evaluate_argoverse2",
    "write_argoverse2_results",
    "CalorimeterMetric",
    "ClassificationMetric",
    "ClusterTable",
    "CurveErrors",
    "KITTIMetric",
    "LeftOut",
    "LidarSegMetric",
    "MapMetric",
    "Matches",
    "NuScenesMetric",
    "RoomVotes",
    "S3DISMetric",
    "NuScenesTrackingMetric",
    "SceneSample",
    "SegmentationMetric",
    "SemanticKITTIMetric",
    "ShapeNetPartMetric",
    "average_precision",
    "THRESHOLDS",
    "cluster_scores",
    "cluster_table",
    "confusion_matrix",
    "count_cells",
    "count_event",
    "count_matches",
    "curve",
    "curve_errors",
    "detections_to_objects",
    "detections_to_rows",
    "evaluate_results",
    "flat_metrics",
    "format_cluster_scores",
    "format_kitti_scores",
    "format_part_scores",
    "format_map_scores",
    "format_scores",
    "format_summary",
    "guess_attribute",
    "iou_per_class",
    "kitti_scores",
    "left_out",
    "map_iou",
    "map_scores",
    "match_clusters",
    "mean_iou",
    "mean_qualities",
    "part_scores",
    "qualities",
    "read_cluster_table",
    "read_results",
    "read_semantickitti_predictions",
    "rows_to_detections",
    "score_kitti_files",
    "score_semantickitti_files",
    "scores_of",
    "segment_centres",
    "shape_iou",
    "write_lidarseg_predictions",
    "write_results",
    "write_tracking_results",
    "track_scenes",
    "rows_to_tracks",
    "read_tracking_results",
    "format_tracking_summary",
    "flat_tracking_metrics",
    "evaluate_tracking",
    "write_semantickitti_predictions",
]
