# SPDX-License-Identifier: Apache-2.0
"""Parameters of the published BEVFusion and its parts, and a step of the models of demonstration size."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from pcperc.models.bevfusion.detector import BEVFusion
from pcperc.registry import MODELS
from tests.models.bevfusion_small import make_batch, run_model, scene_points

CONFIGS = Path(__file__).parents[2] / "configs/_base_/models"


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def build_from_file(name: str) -> BEVFusion:
    with torch.device("meta"):
        return MODELS.build(Config.fromfile(CONFIGS / name).model)


def test_published_parameter_counts():
    model = build_from_file("bevfusion.py")
    parts = {
        "backbone": (model.encoders["camera"].backbone, 27.52),
        "neck": (model.encoders["camera"].neck, 1.59),
        "view transform": (model.encoders["camera"].view_transform, 1.61),
        "lidar": (model.encoders["lidar"], 2.69),
        "fuser": (model.fuser, 0.775),
        "decoder backbone": (model.decoder.backbone, 4.28),
        "decoder neck": (model.decoder.neck, 0.296),
        "head": (model.heads["object"], 1.035),
    }
    found = {name: count(part) / 1e6 for name, (part, _) in parts.items()}
    assert found == pytest.approx({name: millions for name, (_, millions) in parts.items()}, abs=0.006)
    assert count(model) == sum(count(part) for part, _ in parts.values())
    assert count(model) / 1e6 == pytest.approx(39.8, abs=0.05)


def test_published_parameter_count_of_lidar_alone():
    model = build_from_file("bevfusion_lidar.py")
    assert list(model.encoders) == ["lidar"]
    assert count(model) / 1e6 == pytest.approx(8.31, abs=0.006)


def test_demonstration_size():
    assert count(build_from_file("bevfusion_demo.py")) <= 1_200_000
    assert list(build_from_file("bevfusion_lidar_demo.py").encoders) == ["lidar"]


@pytest.mark.parametrize("name", ["bevfusion_demo.py", "bevfusion_lidar_demo.py"])
def test_demonstration_model_runs(name):
    """One step at the shipped demonstration size, images of 128 x 352."""
    model = MODELS.build(Config.fromfile(CONFIGS / name).model)
    batch = make_batch([scene_points()], images="camera" in model.encoders)
    if "camera" in model.encoders:
        batch["inputs"]["images"] = torch.zeros(1, 2, 3, 128, 352, dtype=torch.uint8)
    losses = run_model(model, batch, "loss")
    sum(value for key, value in losses.items() if "loss" in key).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name
