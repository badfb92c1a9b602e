# SPDX-License-Identifier: Apache-2.0
"""The MMEngine metric of KITTI's object benchmark, and result files in its format."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from pcperc.datasets.kitti_files import (
    CLASSES,
    KITTIObjects,
    format_objects,
    list_frames,
    read_objects,
)
from pcperc.evaluation.by_sample import MetricBySample
from pcperc.evaluation.kitti import AveragePrecision, flat_scores, format_kitti_scores, kitti_scores
from pcperc.evaluation.report import write_report
from pcperc.files import write_text
from pcperc.geometry import Detections
from pcperc.geometry.kitti import KITTICalibration, alpha_of, boxes_on_image, boxes_to_kitti, lidar_to_upright
from pcperc.registry import METRICS
from pcperc.simulated import simulated_note

RESULTS_NAME = "kitti_results"


@METRICS.register_module()
class KITTIMetric(MetricBySample):
    """3D and BEV average precision of `KITTIObject` or `KITTIFrustums`, over every frame of the split.

    Args:
        output_dir: receives ``kitti_results/<frame>.txt`` in the format of the server, and scores.json; None keeps the
            numbers alone.
        format_only: write files of results and return no score; for frames without labels.
    Raises:
        ValueError: format_only without output_dir.
    """

    title = "KITTI"

    def __init__(self, *, output_dir: str | Path | None = None, format_only: bool = False) -> None:
        super().__init__()
        if format_only and output_dir is None:
            raise ValueError("KITTIMetric: output_dir must be given with format_only, got None")
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.format_only = format_only

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[Detections]) -> None:
        """Take the detections of a batch, recorded LiDAR frame, one entry a sample of ``data_batch["samples"]``."""
        samples = data_batch["samples"]
        if len(samples) != len(data_samples):
            raise ValueError(f"KITTIMetric: data_samples must have {len(samples)} entries, got {len(data_samples)}")
        if not self.results:
            self._check_labels()
        classes = self._meta("classes")
        for sample, found in zip(samples, data_samples, strict=True):
            objects = detections_to_objects(
                found,
                sample["calibration"],
                classes=classes,
                image_size=sample["image_size"],
                box_2d=sample.get("box_2d"),
            )
            self.results.append((sample["sample_token"], sample["frame"], objects))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Score (sample_token, frame, objects) of each sample."""
        frames, by_frame = self._meta("frames"), defaultdict(list)
        for _, frame, objects in results:
            by_frame[frame].append(objects)
        found = [concatenate(by_frame[frame]) for frame in frames]
        if self.output_dir is not None:
            for frame, objects in zip(frames, found, strict=True):
                write_text(self.output_dir / RESULTS_NAME / f"{frame}.txt", format_objects(objects, digits=4))
        if self.format_only:
            folder = self.output_dir / RESULTS_NAME
            print_log(f"results of {len(frames)} frames written to {folder}", logger="current")
            return {}
        labels = self._check_labels()
        truth = [read_objects(labels / f"{frame}.txt") for frame in frames]
        scores = kitti_scores(truth, found, classes=self._meta("classes"))
        split = str(self._meta("split"))
        title = f"{self.title} {split}, average precision in percent" + simulated_note(self.dataset_meta)
        table, flat = format_kitti_scores(scores, title=title), flat_scores(scores)
        print_log("\n" + table, logger="current", level=logging.INFO)
        if self.output_dir is not None:
            write_report(self.output_dir, title=title, scores=flat, table=table, num_frames=len(frames))
        return flat

    def _check_labels(self) -> Path:
        """Return the folder of labels, which scores need; asked before a long test and not behind it."""
        labels = Path(self._meta("folder")) / "label_2"
        if not (self.format_only or labels.is_dir()):
            raise FileNotFoundError(
                f"KITTIMetric: {labels} is missing, so there is no score; format_only has files alone"
            )
        return labels

    def _meta(self, key: str) -> Any:
        """Return what the data set says of itself."""
        if key not in (self.dataset_meta or {}):
            raise ValueError(f"KITTIMetric: {key} must be in the metainfo of the data set")
        return self.dataset_meta[key]


def score_kitti_files(
    root: str | Path, split: str, results: str | Path, *, classes: Sequence[str] = CLASSES
) -> dict[str, AveragePrecision]:
    """Score a folder of result files, of this project or another.

    Args:
        root, split: as of `KITTIObject`; the frames need labels.
        results: folder of ``<frame>.txt``; a frame without a file has no detections. Rows without a score count as
            certain, so that the folder of labels itself can be scored.
        classes: names to score.
    Raises:
        FileNotFoundError: no labels, or no such folder. ValueError: a malformed file; the message names the line.
    """
    folder, frames = list_frames(Path(root), split)
    results = Path(results)
    if not results.is_dir():
        raise FileNotFoundError(f"score_kitti_files: results must be a folder, {results} is missing")
    truth, found = [], []
    for frame in frames:
        truth.append(read_objects(folder / "label_2" / f"{frame}.txt"))
        path = results / f"{frame}.txt"
        objects = read_objects(path) if path.is_file() else concatenate([])
        found.append(replace(objects, scores=np.nan_to_num(objects.scores, nan=1.0)))
    return kitti_scores(truth, found, classes=classes)


def detections_to_objects(
    detections: Detections,
    calibration: KITTICalibration,
    *,
    classes: Sequence[str],
    image_size: tuple[int, int],
    box_2d: np.ndarray | None = None,
) -> KITTIObjects:
    """Return detections of a frame as rows of a result file.

    Args:
        detections: recorded LiDAR frame. calibration: of the frame. classes: names by label.
        image_size: (height, width), to which 2D boxes are cut.
        box_2d: (4,) the 2D box of all of them, as of a frustum; None projects each box. One that is not on the image is
            left out, as the benchmark has no such objects.
    """
    found = detections.numpy()
    upright = lidar_to_upright(found.boxes[:, :7], calibration)
    height, width = image_size
    limits = np.array([width - 1, height - 1, width - 1, height - 1], np.float64)
    if box_2d is None:
        rectangles = np.clip(np.nan_to_num(boxes_on_image(upright, calibration), nan=0.0), 0.0, limits)
    else:
        rectangles = np.tile(np.asarray(box_2d, np.float64), (len(upright), 1))
    sizes, locations, rotations_y = boxes_to_kitti(upright)
    unknown = np.full((len(upright), 2), -1.0)
    table = np.concatenate(
        [unknown, alpha_of(upright)[:, None], rectangles, sizes, locations, rotations_y[:, None]], axis=1
    )
    objects = KITTIObjects.from_table([classes[label] for label in found.labels], table, found.scores)
    return objects.take((rectangles[:, 0] < rectangles[:, 2]) & (rectangles[:, 1] < rectangles[:, 3]))


def concatenate(parts: Sequence[KITTIObjects]) -> KITTIObjects:
    """Return all rows of several; no part gives no row."""
    parts = [KITTIObjects.from_table([], np.zeros((0, 14))), *parts]
    names = parts[0].__dict__
    return KITTIObjects(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
