# SPDX-License-Identifier: Apache-2.0
"""The MMEngine metric of rooms that are predicted block by block."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pcperc.evaluation.rooms import RULES, RoomVotes
from pcperc.evaluation.segmentation import confusion_matrix
from pcperc.evaluation.segmentation_metrics import SegmentationMetric
from pcperc.files import write_text
from pcperc.geometry import IGNORED, PointLabels
from pcperc.registry import METRICS

SCANNET_FOLDER = "scannet"  # of the output folder: a file for each scan


@METRICS.register_module()
class S3DISMetric(SegmentationMetric):
    """mIoU and accuracy over every point of whole rooms, of `S3DIS` and of `ScanNet`: blocks vote (`RoomVotes`).

    A block without ``room_index``, which has no place in its room, is scored as a room of its own.

    Args:
        output_dir: receives segmentation_scores.json and, of ScanNet, ``scannet/<scan>.txt`` as its server takes them:
            the NYU40 number of each vertex, 0 where nothing is said.
        votes: rule of `RoomVotes`.
        format_only: write the files of ScanNet and return no score; for scans without labels.
        others: those of `SegmentationMetric`.
    Raises:
        ValueError: another rule, or format_only without output_dir.
    """

    title = "indoor segmentation"

    def __init__(self, *, votes: str = "sum", **others) -> None:
        super().__init__(**others)
        if votes not in RULES:
            raise ValueError(f"S3DISMetric: votes must be one of {', '.join(RULES)}, got {votes!r}")
        self.votes = votes

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[PointLabels]) -> None:
        """Take the predictions of a batch of blocks, one entry a sample of ``data_batch["samples"]``."""
        op, samples = type(self).__name__, data_batch["samples"]
        self._check_format()
        if len(samples) != len(data_samples):
            raise ValueError(f"{op}: data_samples must have {len(samples)} entries, got {len(data_samples)}")
        for sample, prediction in zip(samples, data_samples, strict=True):
            token, prediction = sample["sample_token"], prediction.numpy()
            truth = sample.get("recorded_labels", sample.get("point_labels"))
            if truth is None and not self.format_only:
                raise ValueError(f"{op}: sample {token} must have point_labels to be scored, but has none")
            truth = np.full(len(prediction), IGNORED) if truth is None else truth
            if len(truth) != len(prediction):
                raise ValueError(f"{op}: sample {token} must have {len(truth)} predictions, got {len(prediction)}")
            truth = torch.as_tensor(truth).cpu().numpy().astype(np.uint8)
            rows, room = sample.get("room_index"), sample["room"]
            if rows is None:
                rows, room = np.arange(len(truth)), token
            rows = np.asarray(rows).astype(np.int32)
            labels, scores = prediction.labels.astype(np.uint8), prediction.scores.astype(np.float32)
            self.results.append((token, room, sample.get("num_room_points"), rows, truth, labels, scores))

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """Score (sample_token, room, points of the room, rows, truth, labels, scores) of each block."""
        rooms, num_classes = defaultdict(list), len(self._classes())
        self._check_format()
        for _, room, *block in results:
            rooms[room].append(block)
        confusions = []
        for room, blocks in rooms.items():
            most = max((int(rows.max()) + 1 for _, rows, *_ in blocks if len(rows)), default=0)
            count = blocks[0][0] or most
            votes, room_truth = RoomVotes(count, num_classes, rule=self.votes), np.full(count, IGNORED, np.uint8)
            for _, rows, truth, labels, scores in blocks:
                votes.add(labels, scores, rows)
                room_truth[rows] = truth
            labels = votes.labels()
            self._write_numbers(room, labels)
            confusions.append((room, confusion_matrix(room_truth, labels, num_classes=num_classes)))
        return super().compute_metrics(confusions)

    def _check_format(self) -> None:
        """Require a data set whose results are files; before a long test, not behind it."""
        if self.format_only and "numbers" not in (self.dataset_meta or {}):
            raise ValueError("S3DISMetric: format_only is for ScanNet: other data sets of rooms take no files")

    def _write_numbers(self, room: str, labels: np.ndarray) -> None:
        """Write the numbers of a scan's vertices, where its data set has numbers."""
        numbers = (self.dataset_meta or {}).get("numbers")
        if numbers is None or self.output_dir is None:
            return
        table = np.zeros(IGNORED + 1, np.int64)
        table[: len(numbers)] = numbers
        write_text(self.output_dir / SCANNET_FOLDER / f"{room}.txt", "\n".join(map(str, table[labels].tolist())) + "\n")
