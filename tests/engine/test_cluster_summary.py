# SPDX-License-Identifier: Apache-2.0
"""What is drawn of the scores of clusters: a line of all showers, and one for each class where there are several."""

import numpy as np
import pytest
import torch

from pcperc.datasets import collate
from pcperc.engine import summaries
from pcperc.evaluation import CalorimeterMetric
from pcperc.geometry import HitClusters
from tests.calorimeter_events import made_event


@pytest.mark.parametrize("showers, classes", [(3, ["electromagnetic", "hadronic"]), (1, []), (0, [])])
def test_a_line_for_each_class(tmp_path, monkeypatch, showers, classes):
    data = collate([{"sample_token": "a", **made_event(np.random.default_rng(0), showers)}])
    (sample,) = data["samples"]
    metric = CalorimeterMetric(output_dir=tmp_path)
    metric.process(data, [HitClusters(sample["class"], sample["instance"], torch.ones(len(sample["class"])))])
    scores = metric.evaluate(1)
    drawn = []
    monkeypatch.setattr(summaries, "draw_cluster_curves", lambda path, tables, **more: drawn.append((tables, more)))
    summaries.print_summary(CalorimeterMetric, summaries.Scored("made up", {}, tmp_path, scores))
    ((tables, more),) = drawn
    assert list(tables) == ["all", *classes] and more["title"] == "calorimeter clusters, 1 events, matched by energy"
    assert [len(table.energy) for table in tables.values()] == [showers, 2, 1][: 1 + len(classes)]
