# SPDX-License-Identifier: Apache-2.0
"""Events in the recHit layout with clusters but without classes, from a config to scores, at toy size."""

import json

import numpy as np
import pytest

from pcperc.engine.testing import TestOptions, test
from pcperc.engine.training import TrainOptions, train
from tests.calorimeter_events import made_event, write_arrays
from tests.engine.helpers import read_losses
from tests.engine.test_calorimeter import CONFIG, SMALL

SPLITS = {"train_dataloader.dataset.split": "train", "test_dataloader.dataset.split": "test"}
ONE_CLASS = {f"{name}_dataloader.dataset.class_of_clusters": 1 for name in ("train", "test")}


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("train/a", "train/b", "test/c"):
        event = made_event(rng, 3)
        path = tmp_path / f"recHits/{name}.npz"
        write_arrays(path, recHitFeatures=event["hits"], recHitTruthClusterIdx=event["instance"][:, None])
    return tmp_path / "recHits"


def test_recHits_are_trained_with_and_scored(root, tmp_path):
    overrides = {**SMALL, **SPLITS, **ONE_CLASS, "data_root": str(root)}
    options = {"device": "cpu", "overrides": overrides}
    checkpoint = train(TrainOptions(CONFIG, work_dir=tmp_path / "work", **options))
    losses = list(read_losses(tmp_path / "work").values())
    assert losses and all(np.isfinite(list(line.values())).all() and line["loss_attraction"] > 0 for line in losses)
    found = test(TestOptions(None, checkpoint, evaluation="calo", work_dir=tmp_path / "scores", device="cpu"))
    written = json.loads((tmp_path / "scores/cluster_scores.json").read_text())
    assert written["num_events"] == 1 and written["curves"]["energy"]["left_out"]["all_showers"] == 3
    assert "hits/electromagnetic/PQ" in found and found["efficiency"] >= 0


def test_recHits_without_the_option_say_what_gives_them_a_class(root, tmp_path):
    overrides = {**SMALL, **SPLITS, "data_root": str(root)}
    message = "must have 'class' of 80 hits, got none; class_of_clusters of CalorimeterHits gives clusters one"
    with pytest.raises(ValueError, match=rf"sample train/[ab] {message}"):
        train(TrainOptions(CONFIG, work_dir=tmp_path / "work", device="cpu", overrides=overrides))
