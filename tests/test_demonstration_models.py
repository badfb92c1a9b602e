# SPDX-License-Identifier: Apache-2.0
"""A few steps of the BEVFusion models of demonstration size on one made-up batch."""

import numpy as np
import pytest
import torch

from pcperc.datasets import collate
from pcperc.engine.config import load_config
from pcperc.engine.optim_wrapper import CheckedOptimWrapper
from pcperc.registry import MODELS


def demo_batch(with_images: bool) -> dict:
    """One made-up sample: a floor of points, a car, six grey images that look forward."""
    rng = np.random.default_rng(0)
    points = np.c_[rng.uniform(-50, 50, (4000, 2)), rng.uniform(-2, 0, 4000), np.full((4000, 2), 1.0)]
    sample = {
        "points": points.astype(np.float32),
        "boxes": np.array([[10, 5, -1, 4, 2, 1.5, 0.3, 1, 0]], np.float32),
        "labels": np.array([0]),
        "lidar_aug": np.eye(4),
        "map_masks": np.indices((6, 100, 100))[1] < 40,
    }
    if with_images:
        forward = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
        sample["images"] = [np.full((128, 352, 3), 90, np.uint8)] * 6
        sample["lidar2camera"] = np.tile(forward, (6, 1, 1))
        sample["camera2image"] = np.tile([[200.0, 0, 176], [0, 200, 64], [0, 0, 1]], (6, 1, 1))
        sample["image_aug"] = np.tile(np.eye(3), (6, 1, 1))
    return collate([sample, sample])


@pytest.mark.parametrize(
    "name", ["demo", "lidar_only_demo", "camera_only_demo", "pointpillars_demo", "camera_map_demo", "joint_demo"]
)
def test_a_step_of_the_demonstration_model(name):
    """Every parameter gets a finite gradient, and a few steps lower the loss on one batch."""
    torch.manual_seed(0)
    model = MODELS.build(load_config(f"configs/bevfusion/{name}.py").model).train()
    assert sum(p.numel() for p in model.parameters()) * 4 < 5e6, "the shipped weights must stay below 5 MB"
    wrapper = CheckedOptimWrapper(optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3), clip_grad={"max_norm": 35})
    batch = demo_batch(with_images=name != "lidar_only_demo")
    losses = []
    for step in range(4):
        with wrapper.optim_context(model):
            loss, _ = model.parse_losses(model(**model.data_preprocessor(batch, True), mode="loss"))
        if step == 0:
            loss.backward(retain_graph=True)
            without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
            assert not without, "DistributedDataParallel waits for a gradient of every parameter"
            model.zero_grad()
        wrapper.update_params(loss)
        losses.append(loss.item())
    assert losses[-1] < losses[0]
