# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
import torch

from pcperc.geometry import Detections


def make(count: int = 4) -> Detections:
    return Detections(torch.arange(count * 9.0).reshape(count, 9), torch.linspace(1, 0, count), torch.arange(count))


def test_filter_by_mask_and_by_order():
    found = make()
    kept = found.filter(torch.tensor([True, False, True, False]))
    assert len(kept) == 2 and kept.labels.tolist() == [0, 2] and kept.boxes[1, 0] == 18
    assert found.filter(torch.tensor([3, 0])).labels.tolist() == [3, 0]


def test_numpy_detaches_and_widens_bfloat16():
    found = Detections(
        torch.ones(2, 9, requires_grad=True), torch.ones(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.int64)
    )
    arrays = found.numpy()
    assert isinstance(arrays.boxes, np.ndarray) and arrays.scores.dtype == np.float32
    assert arrays.numpy() is arrays
    assert len(arrays.filter(np.array([True, False]))) == 1


def test_empty_and_device(device):
    assert len(Detections.empty().to(device)) == 0
    assert make().to(device).boxes.device.type == device.type


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "message"),
    [
        (torch.zeros(2, 7), torch.zeros(2), torch.zeros(2, dtype=torch.long), r"boxes must be \(K, 9\), got \(2, 7\)"),
        (torch.zeros(2, 9), torch.zeros(3), torch.zeros(2, dtype=torch.long), r"scores must be \(2,\), got \(3,\)"),
        (torch.zeros(2, 9), torch.zeros(2), torch.zeros(2), "labels must be integers"),
    ],
)
def test_errors(boxes, scores, labels, message):
    with pytest.raises(ValueError, match=message):
        Detections(boxes, scores, labels)
