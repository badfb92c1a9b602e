# SPDX-License-Identifier: Apache-2.0
"""The tools with PVCNN on rooms, from simulated ones to scores and exported files, at toy size."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from pcperc.datasets import S3DIS
from pcperc.engine import training
from pcperc.engine.cloud_inference import cloud_sample
from pcperc.engine.config import ConfigError
from pcperc.engine.exporting import ExportOptions, export_samples
from pcperc.engine.testing import TestOptions, test
from pcperc.engine.training import TrainOptions, train


def test_blocks_of_rooms_are_trained_and_whole_rooms_scored(blocks, tmp_path, capsys):
    root, config, checkpoint = blocks
    found = test(TestOptions(config, checkpoint, evaluation="s3dis", work_dir=tmp_path, device="cpu"))
    saved = json.loads((tmp_path / "segmentation_scores.json").read_text())
    assert saved["scores"] == pytest.approx(found) and saved["num_samples"] == 1  # one room of several blocks
    recorded = np.load(root / "Area_5_sim_room_1.npy")[:, 6].astype(int)
    assert np.array(saved["confusion"]).sum(1).tolist() == np.bincount(recorded, minlength=13).tolist()
    printed = capsys.readouterr().out
    assert f"accuracy {found['accuracy']:.3f}: " in printed and f"\nscores: {tmp_path}" in printed.replace("\r", "\n")
    only_files = TestOptions(config, checkpoint, work_dir=tmp_path, device="cpu", format_only=True)
    with pytest.raises(ValueError, match="format_only is for ScanNet"):
        test(only_files)


@pytest.mark.parametrize("count", [5, 20])
def test_a_network_of_another_number_of_classes_is_not_trained(blocks, tmp_path, count):
    """5 failed in the first step, without the key, and 20 were trained without a word."""
    _, config, checkpoint = blocks
    shutil.copy(checkpoint, tmp_path / checkpoint.name)  # of an earlier run, which stays where it is
    message = rf"tiny.py: model.backbone.num_classes must be 13, S3DIS has 13 classes \(ceiling, .*\), got {count}$"
    with pytest.raises(ConfigError, match=message):
        train(TrainOptions(config, work_dir=tmp_path, device="cpu", overrides={"model.backbone.num_classes": count}))
    assert (tmp_path / checkpoint.name).is_file()


def test_a_network_of_another_number_of_classes_is_neither_tested_nor_resumed(blocks, tmp_path, monkeypatch):
    """Its checkpoint may be older than the check, or its data another one now."""
    _, config, _ = blocks
    options = TrainOptions(config, work_dir=tmp_path, device="cpu", overrides={"model.backbone.num_classes": 20})
    with monkeypatch.context() as before:
        before.setattr(training, "check_class_counts", lambda *_, **__: None)
        checkpoint = train(options)
    message = r"{}: model.backbone.num_classes must be 13, S3DIS\w* has 13 classes \(ceiling, .*\), got 20$"
    with pytest.raises(ConfigError, match=message.format(checkpoint.name)):
        test(TestOptions(None, checkpoint, work_dir=tmp_path / "scores", device="cpu"))
    unfinished = sorted(path for path in tmp_path.glob("*.pth") if path != checkpoint)
    checkpoint.unlink()
    kept = {path: path.read_bytes() for path in unfinished}
    (tmp_path / "last_checkpoint").write_text(f"{unfinished[-1].name}\n")
    with pytest.raises(ConfigError, match=message.format("tiny.py")):
        train(replace(options, resume=True))
    assert {path: path.read_bytes() for path in tmp_path.glob("*.pth")} == kept


def test_an_exported_room_is_read_as_it_was_recorded(blocks, tmp_path):
    """Its colours were written as 0 to 1, and read as nearly black."""
    root, config, _ = blocks
    (path,) = export_samples(ExportOptions(config, out=tmp_path))
    sample = S3DIS(root=root, split="sim_val").read_sample(0)
    recorded = np.load(root / f"{sample['room'].replace('/', '_')}.npy")[sample["room_index"], :6]
    np.testing.assert_allclose(np.load(path), recorded, atol=1e-4)
    assert cloud_sample(path, {"type": "S3DIS"}, None)["points"].shape == sample["points"].shape
