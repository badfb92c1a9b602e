# SPDX-License-Identifier: Apache-2.0
"""The objects of a batch, as the losses of detectors compare with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcperc.models.bevfusion.box_coder import BoxCoder


@dataclass(frozen=True)
class Truth:
    """The objects of B samples that can be learned, one sample after the other, M in all.

    Attributes:
        boxes: (M, 9) float32.
        labels: (M,) int64.
        sample: (M,) int64, the sample of each object.
        counts: objects of each sample.
    """

    boxes: Tensor
    labels: Tensor
    sample: Tensor
    counts: tuple[int, ...]

    @classmethod
    def of(
        cls,
        samples: Sequence[dict],
        box_coder: BoxCoder,
        device: torch.device | str,
        *,
        batch_size: int,
        num_classes: int,
        op: str,
    ) -> "Truth":
        """Gather ``boxes`` (K, 9) and ``labels`` (K,) of the samples; those that are not usable are left out.

        The samples are best on the CPU: what is usable decides shapes, so that a GPU would be waited for.

        Args:
            box_coder: says which boxes are usable.
            device: where the objects are to be.
            batch_size, num_classes, op: how many samples there must be, of how many classes, and who asks.
        Raises:
            ValueError: another number of samples, wrong shapes in one, or a label that is no class.
        """
        if len(samples) != batch_size:
            raise ValueError(f"{op}: samples must be {batch_size}, got {len(samples)}")
        boxes, codes = [torch.zeros(0, 9)], [torch.zeros(2, 0, dtype=torch.int64)]
        for number, sample in enumerate(samples):
            own = torch.as_tensor(sample["boxes"], dtype=torch.float32, device="cpu")
            labels = torch.as_tensor(sample["labels"], dtype=torch.int64, device="cpu")
            if own.ndim != 2 or own.shape[1] != 9 or labels.shape != own.shape[:1]:
                got = f"{tuple(own.shape)} and {tuple(labels.shape)}"
                raise ValueError(f"{op}: a sample's boxes must be (K, 9) and labels (K,), got {got}")
            usable = box_coder.usable(own)
            if ((labels[usable] < 0) | (labels[usable] >= num_classes)).any():
                got = f"{labels[usable].tolist()} in sample {number}"
                raise ValueError(f"{op}: labels must be in [0, {num_classes}), got {got}")
            boxes.append(own[usable])
            codes.append(torch.stack([labels, torch.full_like(labels, number)])[:, usable])
        labels, sample = torch.cat(codes, 1).to(device, non_blocking=True)  # read from the host when this returns
        return cls(torch.cat(boxes).to(device, non_blocking=True), labels, sample, tuple(map(len, boxes[1:])))
