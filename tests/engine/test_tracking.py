# SPDX-License-Identifier: Apache-2.0
"""--eval tracking of a checkpoint, and its tracks as pictures and as an animation, on a tiny data set."""

import importlib.util
import json
from dataclasses import replace

import pytest
from PIL import Image

from pcperc.engine.checkpoint import save_weights
from pcperc.engine.config import ConfigError, load_config, plain_config
from pcperc.engine.testing import TestOptions, test
from pcperc.engine.visualizing import VisualizeOptions, visualize
from pcperc.registry import MODELS
from tests.engine.helpers import ROOT
from tests.nuscenes_root import write_tiny_root
from tests.simulated_root import mark_simulated

CONFIG = ROOT / "configs/bevfusion/lidar_only_demo.py"


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """A detector with random weights and a data set of two scenes of three samples."""
    folder = tmp_path_factory.mktemp("tracking")
    root = mark_simulated(write_tiny_root(folder / "nuscenes", version="v1.0-sim"))
    cfg = load_config(CONFIG)
    meta = {"config": plain_config(cfg), "config_file": str(CONFIG), "simulated": True}
    save_weights(MODELS.build(cfg["model"]).state_dict(), folder / "model.safetensors", meta=meta)
    return TestOptions(
        CONFIG, folder / "model.safetensors", "tracking", work_dir=folder / "out", data_root=str(root), tracker="greedy"
    )


def test_what_is_refused(options):
    with pytest.raises(ConfigError, match="--tracker greedy: needs --eval tracking"):
        test(replace(options, evaluation="nuscenes"))
    with pytest.raises(ConfigError, match="--tracker must be one of greedy, kalman, got 'magic'"):
        test(replace(options, tracker="magic"))


def test_a_checkpoint_is_scored_and_its_tracks_are_drawn(options, capsys, tmp_path):
    if importlib.util.find_spec("motmetrics") is None:
        pytest.skip("motmetrics is not installed")
    metrics = test(options)
    assert 0 <= metrics["AMOTA"] <= 1
    said = capsys.readouterr().out
    assert "nuScenes tracking by greedy" in said and "simulated data" in said
    results = options.work_dir / "results_tracking.json"
    rows = json.loads(results.read_text())["results"]
    assert len(rows) == 3 and all({"tracking_id", "tracking_name"} <= set(row) for own in rows.values() for row in own)
    seen = VisualizeOptions(CONFIG, results=results, data_root=options.data_root, score_threshold=0.0)
    visualize(replace(seen, gif=tmp_path / "scene.gif"))
    with Image.open(tmp_path / "scene.gif") as image:
        assert image.n_frames == 3
    pictures = visualize(replace(seen, save=tmp_path / "pictures", scene="sim-0001", max_samples=1))
    assert [path.name.endswith(("birds_eye.png", "cameras.png", "scene.png")) for path in pictures].count(True) >= 2
    with pytest.raises(ConfigError, match="--scene must be one of sim-0001, got sim-9"):
        visualize(replace(seen, gif=tmp_path / "other.gif", scene="sim-9"))
    with pytest.raises(ConfigError, match="--save or --gif must be given, not both"):
        visualize(replace(seen, gif=tmp_path / "other.gif", save=tmp_path))
