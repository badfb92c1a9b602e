# SPDX-License-Identifier: Apache-2.0
"""How well a subnet does as it is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pcperc.datasets import collate
from pcperc.evaluation import confusion_matrix, mean_iou
from pcperc.geometry import IGNORED
from pcperc.models import SPVCNN, Segmentor
from pcperc.nn import recalibrate_batch_norm
from pcperc.sparse import PointTensor

SCANS_AT_ONCE = 4  # one by one a GPU would wait for launches


class SubnetScores:
    """mIoU of networks on some scans, after their batch norms were measured on others.

    The scans are prepared once and stay on the device with their kernel maps, which all networks share. Several are one
    batch: batch norms are measured on such, as networks are trained on them, and no score depends on it.

    Args:
        preprocessor: of the segmentor, on the device.
        calibration: samples of the training split.
        scans: labelled samples.
        num_classes: C.
    Raises:
        ValueError: no calibration scan with points, a scan without labels, or no point with a class in any.
    """

    def __init__(
        self,
        preprocessor: torch.nn.Module,
        calibration: Sequence[dict[str, Any]],
        scans: Sequence[dict[str, Any]],
        num_classes: int,
    ):
        self.preprocessor, self.num_classes = preprocessor, num_classes
        batches = [self._prepared(samples) for samples in _in_batches(calibration)]
        self.calibration = [points for batch in batches if len(points := _points(batch))]
        if not self.calibration:
            raise ValueError("search: the training split must have a scan with points to measure batch norms on")
        for sample in scans:
            if "point_labels" not in sample:
                raise ValueError(f"search: sample {sample['sample_token']} must have labels to be scored on")
        self._truth = [np.asarray(sample.get("recorded_labels", sample["point_labels"])) for sample in scans]
        if not any((labels != IGNORED).any() for labels in self._truth):
            raise ValueError(f"search: none of {len(scans)} scans has a point with a class to be scored on")
        self.batches = [self._prepared(samples) for samples in _in_batches(scans)]
        self.first = _points(self._prepared(scans[:1]))

    @property
    def points(self) -> list[PointTensor]:
        """What the networks read of the scans that are scored, several at once."""
        return [_points(batch) for batch in self.batches]

    def calibrate(self, net: SPVCNN, *, half: bool = False) -> SPVCNN:
        """Measure the batch norms of ``net``, which is changed, and return it in eval mode; ``half``: by autocast."""
        with self._autocast(half):
            recalibrate_batch_norm(net, self.calibration)
        return net.eval()

    @torch.inference_mode()
    def __call__(self, net: SPVCNN, *, half: bool = False) -> float:
        """Return the mIoU of a calibrated network over all points; ``half``: in half precision, by autocast."""
        segmentor = Segmentor(self.preprocessor, net).eval()
        total = np.zeros((self.num_classes, self.num_classes + 1), np.int64)
        truth = iter(self._truth)
        for batch in self.batches:
            with self._autocast(half):
                found = segmentor(**batch, mode="predict")
            for predicted in found:
                total += confusion_matrix(next(truth), predicted.numpy().labels, num_classes=self.num_classes)
        return float(mean_iou(total))

    def _prepared(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return self.preprocessor(collate(list(samples)), False)

    def _autocast(self, half: bool) -> torch.autocast:
        kind = self.first.device.type
        return torch.autocast(kind, torch.float16 if kind == "cuda" else torch.bfloat16, enabled=half)


def _in_batches(samples: Sequence[dict[str, Any]]) -> list[Sequence[dict[str, Any]]]:
    return [samples[i : i + SCANS_AT_ONCE] for i in range(0, len(samples), SCANS_AT_ONCE)]


def _points(batch: dict[str, Any]) -> PointTensor:
    return batch["inputs"]["prepared"].points
