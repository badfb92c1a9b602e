# SPDX-License-Identifier: Apache-2.0
"""Results files and official scores."""

from pcperc.evaluation.nuscenes import NuScenesMetric, evaluate_results, flat_metrics, format_summary
from pcperc.evaluation.nuscenes_results import (
    detections_to_rows,
    guess_attribute,
    read_results,
    rows_to_detections,
    write_results,
)
from pcperc.evaluation.segmentation import confusion_matrix, format_scores, iou_per_class, mean_iou, scores_of
from pcperc.evaluation.segmentation_files import (
    read_semantickitti_predictions,
    score_semantickitti_files,
    write_lidarseg_predictions,
    write_semantickitti_predictions,
)
from pcperc.evaluation.segmentation_metrics import LidarSegMetric, SegmentationMetric, SemanticKITTIMetric

__all__ = [
    "LidarSegMetric",
    "NuScenesMetric",
    "SegmentationMetric",
    "SemanticKITTIMetric",
    "confusion_matrix",
    "detections_to_rows",
    "evaluate_results",
    "flat_metrics",
    "format_scores",
    "format_summary",
    "guess_attribute",
    "iou_per_class",
    "mean_iou",
    "read_results",
    "read_semantickitti_predictions",
    "rows_to_detections",
    "score_semantickitti_files",
    "scores_of",
    "write_lidarseg_predictions",
    "write_results",
    "write_semantickitti_predictions",
]
