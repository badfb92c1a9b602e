# SPDX-License-Identifier: Apache-2.0
"""Real shapes and a real scan learnt by heart: that gradients, labels, blocks, votes and scores belong together."""

import numpy as np
import pytest
import torch

from pcperc.datasets import ScanNet, collate
from pcperc.engine import load_model
from pcperc.engine.testing import TestOptions, test
from pcperc.engine.training import TrainOptions, train
from pcperc.evaluation import confusion_matrix, mean_iou

CAPS, SCANNET = "configs/pvcnn/overfit_caps.py", "configs/pvcnn/overfit_scannet.py"


def overrides_for(root):
    return {
        "data_root": str(root),
        "train_dataloader.dataset.root": str(root),
        "test_dataloader.dataset.root": str(root),
    }


@pytest.fixture
def caps_root(realdata, tmp_path):
    """Five caps in the published text layout."""
    folder = tmp_path / "caps" / "02954340"
    folder.mkdir(parents=True)
    with np.load(realdata / "shapenet_part" / "cap_val.npz") as arrays:
        for i in range(5):
            rows = np.concatenate([arrays[f"pos_{i}"], arrays[f"x_{i}"], arrays[f"y_{i}"][:, None]], 1)
            np.savetxt(folder / f"cap{i}.txt", rows, fmt="%.6f")
    return folder.parent


@pytest.mark.realdata
def test_caps_are_being_learnt(caps_root, tmp_path):
    """A few steps with coarser grids and fewer points, on a CPU."""
    more = {
        "model.data_preprocessor.num_points": 256,
        "model.data_preprocessor.votes": 1,
        "model.backbone.resolution_scale": 0.25,
        "train_cfg.max_epochs": 2,
    }
    options = TrainOptions(CAPS, work_dir=tmp_path / "work", device="cpu", overrides=overrides_for(caps_root) | more)
    checkpoint = train(options)
    found = test(TestOptions(None, checkpoint, evaluation="shapenet", work_dir=tmp_path / "scores", device="cpu"))
    assert found["instance_mIoU"] > 0.6


@pytest.mark.gpu
@pytest.mark.large
@pytest.mark.realdata
def test_caps_are_learnt_by_heart(caps_root, tmp_path):
    checkpoint = train(TrainOptions(CAPS, work_dir=tmp_path / "work", overrides=overrides_for(caps_root)))
    found = test(TestOptions(None, checkpoint, evaluation="shapenet", work_dir=tmp_path / "scores"))
    print(found)
    assert found["instance_mIoU"] >= 0.95


@pytest.mark.gpu
@pytest.mark.large
@pytest.mark.realdata
def test_a_scan_is_learnt_by_heart(realdata, tmp_path):
    """The second scan of the same room is scored beside it; nothing is asked of that score."""
    root = realdata / "scannet"
    checkpoint = train(TrainOptions(SCANNET, work_dir=tmp_path / "work", overrides=overrides_for(root)))
    found = test(TestOptions(None, checkpoint, evaluation="s3dis", work_dir=tmp_path / "scores"))
    model, _ = load_model(checkpoint, device="cuda")
    sample = ScanNet(root=root, scans=["scene0000_01"], block=None)[0]
    with torch.inference_mode():
        labels = model.test_step(collate([sample]))[0].numpy().labels
    other = mean_iou(confusion_matrix(sample["point_labels"], labels, num_classes=20))
    print(f"mIoU of scene0000_00, learnt: {found['mIoU']:.3f}; of scene0000_01, the same room: {other:.3f}")
    assert found["mIoU"] >= 0.8
