# SPDX-License-Identifier: Apache-2.0
"""From a collated batch of events to the hits that a network reads, on the model's device."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from pcperc.geometry.calorimeter import HIT_COLUMNS
from pcperc.registry import MODELS
from pcperc.sparse import PointTensor

ENERGY_UNIT = 0.01  # GeV, about the loss of one minimum-ionising particle in a layer
LENGTH_UNIT = 100.0  # cm
FRONT = 320.0  # cm from the origin along the beam, where the endcap begins
FEATURES = ("ln(1 + E / 10 MeV)", "|eta|", "x / m", "y / m", "(|z| - 3.2 m) / m")


class PreparedHits(NamedTuple):
    """What a network reads: the N hits of all events, one event after the other.

    An event's two endcaps are two batch items, the one at z < 0 mirrored: 2 b is z >= 0 of event b, 2 b + 1 the other.
    """

    points: PointTensor  # `FEATURES` of each hit, at its place in voxels
    xyz: Tensor  # (N, 3) cm, z mirrored
    energy: Tensor  # (N,) GeV
    sizes: list[int]  # hits of each event


@MODELS.register_module()
class HitPreprocessor(BaseDataPreprocessor):
    """Move a batch of events to the device, mirror one endcap onto the other, and measure the hits in voxels.

    Args:
        voxel_size: edge length in cm, or (x, y, z).
        non_blocking: let copies to the device overlap with the host's work.
    Raises:
        ValueError: a voxel_size that is not positive.
    """

    def __init__(self, voxel_size: float | Sequence[float] = 1.0, *, non_blocking: bool = False):
        super().__init__(non_blocking)
        sizes = torch.tensor(voxel_size, dtype=torch.float32).flatten()
        if len(sizes) not in (1, 3) or not ((sizes > 0) & sizes.isfinite()).all():
            raise ValueError(f"HitPreprocessor: voxel_size must be one positive number or three, got {voxel_size}")
        self.register_buffer("voxel_size", sizes.expand(3).clone(), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model is; asked of a buffer, since not every way of moving a model tells MMEngine's attribute."""
        return self.voxel_size.device

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data: ``inputs`` and ``samples`` as of ``pcperc.datasets.collate``; left as it is.
        Returns:
            The same layout on the device, with ``inputs["prepared"]``, the PreparedHits.
        Raises:
            ValueError: no hits, another number of columns, an energy that is negative, or a value that is not finite;
                the message names the sample.
        """
        data = self.cast_data(data)
        inputs = data["inputs"] = dict(data["inputs"])
        if "hits" not in inputs:
            raise ValueError(f"HitPreprocessor: inputs must hold 'hits', got {sorted(inputs)}")
        names = [str(sample.get("sample_token", i)) for i, sample in enumerate(data.get("samples") or [])]
        with torch.autocast(self.device.type, enabled=False):
            inputs["prepared"] = self.prepare(inputs["hits"], names=names)
        return data

    def prepare(self, events: Sequence[Tensor], *, names: Sequence[str] = ()) -> PreparedHits:
        """Prepare B >= 1 events (N_i, 9) in `HIT_COLUMNS`; N_i may be 0. ``names`` are for messages."""
        for event in events:
            if event.ndim != 2 or event.shape[1] != len(HIT_COLUMNS):
                raise ValueError(
                    f"HitPreprocessor: hits must be (N, {len(HIT_COLUMNS)}) {', '.join(HIT_COLUMNS)}, "
                    f"got {tuple(event.shape)}"
                )
        sizes = [len(event) for event in events]
        hits = torch.cat(list(events)).float()
        counts = torch.tensor(sizes, device=self.device)
        event = torch.arange(len(sizes), device=self.device).repeat_interleave(counts, output_size=len(hits))
        _check_values(hits, event, names)
        energy, eta, xyz = hits[:, 0], hits[:, 1], hits[:, 5:8]
        item = 2 * event + (xyz[:, 2] < 0)
        xyz = torch.cat([xyz[:, :2], xyz[:, 2:].abs()], 1)
        origin = xyz.new_tensor([0.0, 0.0, FRONT])
        features = torch.cat([(energy / ENERGY_UNIT).log1p()[:, None], eta.abs()[:, None]], 1)
        features = torch.cat([features, (xyz - origin) / LENGTH_UNIT], 1)
        coords = torch.cat([item[:, None].float(), (xyz - origin) / self.voxel_size], 1)
        return PreparedHits(PointTensor(coords, features, 2 * len(sizes)), xyz, energy, sizes)


def _check_values(hits: Tensor, event: Tensor, names: Sequence[str]) -> None:
    """Raise for the first hit that no network can read."""
    bad = ~(hits.isfinite().all(1) & (hits[:, 0] >= 0))
    if bad.any():
        row = int(bad.int().argmax())
        number = int(event[row])
        name = names[number] if number < len(names) else number
        raise ValueError(
            f"HitPreprocessor: hits of sample {name} must be finite with an energy >= 0, got "
            f"{dict(zip(HIT_COLUMNS, hits[row].tolist(), strict=True))}"
        )
