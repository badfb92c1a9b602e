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

__all__ = [
    "NuScenesMetric",
    "detections_to_rows",
    "evaluate_results",
    "flat_metrics",
    "format_summary",
    "guess_attribute",
    "read_results",
    "rows_to_detections",
    "write_results",
]
