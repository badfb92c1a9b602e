# SPDX-License-Identifier: Apache-2.0
"""Frames of a made event, and what is drawn of them."""

import numpy as np
import torch

from pcperc.geometry import HitClusters
from pcperc.visualization import event_display, event_legend
from pcperc.visualization.event_frame import EventFrame
from tests.calorimeter_events import made_event


def found(instances):
    instances = torch.as_tensor(instances)
    return HitClusters((instances >= 0).long(), instances, torch.ones(len(instances)))


def frame(predicted=None, *, simulated=True, trained_on_simulated=False, **changes):
    sample = {"sample_token": "sim_test/event_1", "scene_name": "sim_test", **made_event(np.random.default_rng(0), 3)}
    sample |= changes
    sample = {key: value for key, value in sample.items() if value is not None}
    told = dict(simulated=simulated, trained_on_simulated=trained_on_simulated)
    return EventFrame.from_sample(sample, predictions=predicted, **told)


def colored(picture, color):
    return int((picture.astype(int) == color).all(axis=2).sum())


def written(monkeypatch):
    """Return a list that gets all texts that would be drawn."""
    texts = []
    for module in (event_display, event_legend):
        monkeypatch.setattr(module, "draw_text", lambda image, text, *_, **options: texts.append(text))
    return texts
