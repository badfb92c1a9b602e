# SPDX-License-Identifier: Apache-2.0
"""How well a subnet does as it is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pcperc.datasets import collate
from pcperc.evaluation import confusion_matrix, mean_iou
from pcperc.models import SPVCNN, Segmentor
from pcperc.nn import recalibrate_batch_norm
from pcperc.sparse import PointTensor


class SubnetScores:
    """mIoU of networks on some scans, after their batch norms were measured on others.

    The scans are prepared once and stay on the device with their kernel maps, which all networks share.

    Args:
        preprocessor: of the segmentor, on the device.
        calibration: samples of the training split.
        scans: labelled samples.
        num_classes: C.
    Raises:
        ValueError: no calibration scan with points, or a scan without labels.
    """

    def __init__(
        self,
        preprocessor: torch.nn.Module,
        calibration: Sequence[dict[str, Any]],
        scans: Sequence[dict[str, Any]],
        num_classes: int,
    ):
        self.preprocessor, self.num_classes = preprocessor, num_classes
        self.calibration = [points for sample in calibration if len(points := self._points(sample))]
        if not self.calibration:
            raise ValueError("search: the training split must have a scan with points to measure batch norms on")
        self.batches = [preprocessor(collate([sample]), False) for sample in scans]
        for batch in self.batches:
            (sample,) = batch["samples"]
            if "point_labels" not in sample:
                raise ValueError(f"search: sample {sample['sample_token']} must have labels to be scored on")

    @property
    def points(self) -> list[PointTensor]:
        """What the networks read of the scans that are scored."""
        return [batch["inputs"]["prepared"].points for batch in self.batches]

    def calibrate(self, net: SPVCNN) -> SPVCNN:
        """Measure the batch norms of ``net``, which is changed, and return it in eval mode."""
        recalibrate_batch_norm(net, self.calibration)
        return net.eval()

    @torch.inference_mode()
    def __call__(self, net: SPVCNN) -> float:
        """Return the mIoU of a calibrated network over all points; 0 where no class is left."""
        segmentor = Segmentor(self.preprocessor, net).eval()
        total = np.zeros((self.num_classes, self.num_classes + 1), np.int64)
        for batch in self.batches:
            (predicted,) = segmentor(**batch, mode="predict")
            sample = batch["samples"][0]
            truth = sample.get("recorded_labels", sample["point_labels"]).cpu().numpy()
            total += confusion_matrix(truth, predicted.numpy().labels, num_classes=self.num_classes)
        return float(np.nan_to_num(mean_iou(total)))

    def _points(self, sample: dict[str, Any]) -> PointTensor:
        return self.preprocessor(collate([sample]), False)["inputs"]["prepared"].points
