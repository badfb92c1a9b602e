# SPDX-License-Identifier: Apache-2.0
"""A calorimeter event to look at: its hits, and true and predicted clusters where there are any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pcperc.geometry import HitClusters
from pcperc.visualization.frame import PREDICTION, TRUTH, origin_notes


@dataclass(frozen=True)
class EventFrame:
    """One event to look at.

    Attributes:
        token: name of the sample. scene_name: name of its split.
        hits: (N, 9) `HIT_COLUMNS`.
        truth, predictions: of numpy arrays, or None where there are none to show.
        simulated: whether the data come from a simulator; every picture then says so.
        trained_on_simulated: whether the predictions are of a network that saw simulated data; likewise.
        has_classes: whether the truth says the class of a hit.
    """

    token: str
    scene_name: str
    hits: np.ndarray
    truth: HitClusters | None = None
    predictions: HitClusters | None = None
    simulated: bool = False
    trained_on_simulated: bool = False
    has_classes: bool = True

    @classmethod
    def from_sample(
        cls,
        sample: dict[str, Any],
        *,
        predictions: HitClusters | None = None,
        simulated: bool = False,
        trained_on_simulated: bool = False,
    ) -> EventFrame:
        """Make a frame of a sample of a data set (docs/conventions.md).

        Raises:
            ValueError: not a prediction for each hit.
        """
        hits, truth = sample["hits"], None
        if "instance" in sample:  # the recHit layout knows clusters but no classes
            label = sample.get("class", (np.asarray(sample["instance"]) >= 0).astype(np.int64))
            truth = HitClusters(label, sample["instance"], np.ones(len(hits), np.float32))
        if predictions is not None and len(predictions) != len(hits):
            raise ValueError(f"EventFrame: predictions must be of {len(hits)} hits, got {len(predictions)}")
        found = None if predictions is None else predictions.numpy()
        return cls(
            token=sample.get("sample_token", ""),
            scene_name=sample.get("scene_name", ""),
            hits=hits,
            truth=truth,
            predictions=found,
            simulated=simulated,
            trained_on_simulated=trained_on_simulated,
            has_classes="class" in sample,
        )

    def layers(self) -> list[tuple[str, HitClusters]]:
        """Return what there is to draw, truth first; without either all hits as noise."""
        layers = [(TRUTH, self.truth), (PREDICTION, self.predictions)]
        found = [(kind, clusters) for kind, clusters in layers if clusters is not None]
        return found or [("hits", HitClusters.all_noise(len(self.hits)).numpy())]

    def endcaps(self) -> list[tuple[str, np.ndarray]]:
        """Return name and (N,) bool of each endcap that has hits, that at z < 0 first; without hits that at z > 0."""
        behind = self.hits[:, 7] < 0
        both = [("z < 0", behind), ("z > 0", ~behind)]
        return [endcap for endcap in both if endcap[1].any()] or both[1:]

    def notes(self) -> list[str]:
        """Return what must be said beside every picture of where data and predictions come from."""
        network = self.trained_on_simulated and self.predictions is not None
        return origin_notes(simulated=self.simulated, trained_on_simulated=network)

    @property
    def file_name(self) -> str:
        """The token as part of a file's name."""
        return self.token.replace("/", "_")

    def title(self) -> str:
        """Return the event in one line."""
        return "; ".join([self.token, *self.notes()])
