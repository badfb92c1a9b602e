# SPDX-License-Identifier: Apache-2.0
"""The config of published h5 blocks, from small files of that layout to the scores of whole rooms."""

import json
import shutil

import numpy as np
import pytest

from pcperc.engine.testing import TestOptions, test
from pcperc.engine.training import TrainOptions, train

SMALL = """
from mmengine.config import read_base

with read_base():
    from .s3dis_blocks import *

data_root = {root!r}
for _loader in (train_dataloader, test_dataloader):
    _loader.merge(dict(batch_size=2, num_workers=0, persistent_workers=False))
    _loader.dataset.merge(dict(root=data_root))
model.merge(dict(data_preprocessor=dict(num_points=32), backbone=dict(width=0.125, resolution_scale=0.125)))
train_cfg.merge(dict(max_epochs=1))
"""


def test_blocks_as_published_are_trained_and_rooms_scored(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    rng, root = np.random.default_rng(0), tmp_path / "root"
    for area in (1, 5):
        folder = root / f"Area_{area}" / "office_1"
        folder.mkdir(parents=True)
        for name in ("zero_0", "half_0"):
            with h5py.File(folder / f"{name}.h5", "w") as file:
                file["data"] = rng.uniform(-0.75, 0.75, (3, 50, 9)).astype(np.float32)
                file["label_seg"], file["data_num"] = rng.integers(0, 13, (3, 50)), np.array([50, 20, 40])
                file["indices_split_to_full"] = rng.permutation(150).reshape(3, 50)
    shutil.copytree("configs", tmp_path / "configs")
    config = tmp_path / "configs/pvcnn/small.py"
    config.write_text(SMALL.format(root=str(root)))
    checkpoint = train(TrainOptions(config, work_dir=tmp_path / "work", device="cpu"))
    found = test(TestOptions(config, checkpoint, work_dir=tmp_path, device="cpu"))
    saved = json.loads((tmp_path / "segmentation_scores.json").read_text())
    assert saved["num_samples"] == 1 and 0 <= found["mIoU"] <= 1  # six blocks of one room
