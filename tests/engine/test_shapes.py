# SPDX-License-Identifier: Apache-2.0
"""The tools with PVCNN on shapes, from simulated ones to scores, files and pictures, at toy size."""

import json
import re

import numpy as np
import pytest

from pcperc.datasets import ShapeNetPart
from pcperc.datasets.shapenet_part_labels import SYNSETS
from pcperc.engine.config import ConfigError
from pcperc.engine.exporting import ExportOptions, export_samples
from pcperc.engine.inference import InferOptions, infer
from pcperc.engine.testing import TestOptions, test
from pcperc.engine.training import TrainOptions, train
from pcperc.engine.visualizing import VisualizeOptions, visualize
from tests.engine.cloud_configs import SHAPES, trained_on
from tests.engine.helpers import read_losses


def test_parts_are_trained_and_scored(parts, tmp_path, capsys):
    root, config, checkpoint = parts
    assert len(read_losses(checkpoint.parent)) == 4
    found = test(TestOptions(config, checkpoint, evaluation="shapenet", work_dir=tmp_path, device="cpu", votes=2))
    saved = json.loads((tmp_path / "scores.json").read_text())
    assert saved["scored"] == {
        "checkpoint": f"work/{checkpoint.name}",
        "config": f"{config.parent.name}/tiny.py",
        "data": f"{root.parent.name}/root",
        "split": "sim_test",
        "simulated_data": True,
        "trained_on_simulated_data": True,
        "options": {"votes": 2},
    }
    assert saved["scores"] == pytest.approx(found) and saved["num_samples"] == 16
    assert "Skateboard" in capsys.readouterr().out


def test_an_exported_shape_comes_with_the_command_that_predicts_it(parts, tmp_path, capsys):
    root, config, checkpoint = parts
    written = export_samples(ExportOptions(config, out=tmp_path))
    command = re.search(
        r"predict one: python tools/infer\.py \S+ CHECKPOINT (\S+) --category (\w+)", capsys.readouterr().out
    )
    assert command[1] == str(written[-1]) and command[2] in SYNSETS
    infer(InferOptions(config, checkpoint, written, out=tmp_path / "out", category=command[2], device="cpu"))


def test_votes_change_what_is_scored(parts, tmp_path):
    root, config, checkpoint = parts
    once = test(TestOptions(config, checkpoint, work_dir=tmp_path, device="cpu"))
    assert once == test(TestOptions(config, checkpoint, work_dir=tmp_path, device="cpu"))  # the same clouds are drawn
    assert once != test(TestOptions(config, checkpoint, work_dir=tmp_path, device="cpu", votes=5))


@pytest.mark.parametrize("key", ["backbone", "data_preprocessor"])
def test_a_network_told_another_number_of_categories_is_not_trained(parts, tmp_path, key):
    _, config, _ = parts
    named = f"model.{key}.num_categories"
    message = rf"tiny.py: {named} must be 16, ShapeNetPart has 16 categories \(Airplane, .*\), got 8$"
    with pytest.raises(ConfigError, match=message):
        train(TrainOptions(config, work_dir=tmp_path, device="cpu", overrides={named: 8}))


def test_a_network_of_other_parts_is_not_trained(parts, tmp_path):
    _, config, _ = parts
    message = r"tiny.py: model.parts must be \(4, 2, .*\), ShapeNetPart has parts of Airplane 4, .*; got \(4, 2\)$"
    with pytest.raises(ConfigError, match=message):
        train(TrainOptions(config, work_dir=tmp_path, device="cpu", overrides={"model.parts": [4, 2]}))


def test_categories_of_shapes_are_trained_and_scored(tmp_path, capsys):
    root, rng, names = tmp_path / "modelnet", np.random.default_rng(0), []
    for number in range(8):
        category, flat = (("chair", (1, 1, 1)), ("night_stand", (1, 1, 0.05)))[number % 2]
        names.append(f"{category}_{number:04d}")
        (root / category).mkdir(parents=True, exist_ok=True)
        rows = np.concatenate([rng.normal(size=(60, 3)) * flat, rng.uniform(-0.5, 0.5, (60, 3))], 1)
        np.savetxt(root / category / f"{names[-1]}.txt", rows, delimiter=",", fmt="%.4f")
    for split in ("train", "test"):
        (root / f"modelnet40_{split}.txt").write_text("\n".join(names) + "\n")
    config, checkpoint = trained_on(root, tmp_path, SHAPES)
    options = dict(work_dir=tmp_path / "scores", device="cpu")
    found = test(TestOptions(config, checkpoint, evaluation="modelnet", **options))
    assert set(found) == {"accuracy", "mean_class_accuracy"}
    assert 8 * found["accuracy"] in range(9) and f"\naccuracy: {found['accuracy']:.4f}" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--eval kitti: .* is evaluated by --eval modelnet"):
        test(TestOptions(config, checkpoint, evaluation="kitti", **options))


def test_parts_of_a_file(parts, tmp_path):
    root, config, checkpoint = parts
    token = ShapeNetPart(root=root, split="sim_test", categories=["Mug"]).tokens[0]
    out = tmp_path / "out"
    (path,) = infer(InferOptions(config, checkpoint, [root / f"{token}.txt"], out=out, category="Mug", device="cpu"))
    result = json.loads(path.read_text())
    labels = np.fromfile(path.with_suffix(".label"), "<u4")
    assert set(labels.tolist()) <= {36, 37} and sum(row["points"] for row in result["classes"]) == len(labels)
    assert all(row["class"].startswith("Mug/") for row in result["classes"]) and result["category"] == "Mug"
    assert len(visualize(VisualizeOptions(config, results=path, save=tmp_path / "pictures"))) == 1
    with pytest.raises(ConfigError, match="--category must say what the files show, one of Airplane, .*; got none"):
        infer(InferOptions(config, checkpoint, [root / f"{token}.txt"], out=out, device="cpu"))
