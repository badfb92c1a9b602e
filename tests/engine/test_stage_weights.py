# SPDX-License-Identifier: Apache-2.0
"""A model that begins with the weights of several stages: a LiDAR and a camera detector in a fusion model."""

import re

import pytest
import torch

from pcperc.engine.checkpoint import CheckpointError, save_weights
from pcperc.engine.weights import load_stages
from pcperc.registry import MODELS
from tests.models.bevfusion_small import small_config


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """Files of a LiDAR and a camera detector of the same decoder and head, and their weights."""
    torch.manual_seed(0)
    folder, weights = tmp_path_factory.mktemp("stages"), {}
    for name in ("lidar", "camera"):
        weights[name] = MODELS.build(small_config(modalities=(name,))).state_dict()
        save_weights(weights[name], folder / f"{name}.safetensors", meta={})
    return {name: folder / f"{name}.safetensors" for name in weights}, weights


def test_the_first_gives_all_and_the_second_its_encoder(stages):
    files, weights = stages
    torch.manual_seed(1)
    fusion = MODELS.build(small_config())
    initial = {key: value.clone() for key, value in fusion.state_dict().items()}
    missing = load_stages(fusion, (files["lidar"], files["camera"]), partial=True)
    assert missing and all(key.startswith("fuser.") for key in missing)
    for key, value in fusion.state_dict().items():
        whose = initial if key in missing else weights["camera" if key.startswith("encoders.camera.") else "lidar"]
        assert torch.equal(value, whose[key]), key


def test_one_file_alone_leaves_the_rest(stages):
    files, _ = stages
    missing = load_stages(MODELS.build(small_config()), (files["lidar"],), partial=True)
    assert {key.split(".")[1] for key in missing if key.startswith("encoders.")} == {"camera"}


def test_what_does_not_fit_is_named(stages, tmp_path):
    files, weights = stages
    fusion = MODELS.build(small_config())
    message = f"{files['lidar']}: must have an encoder that {files['lidar']} lacks, got encoders.lidar"
    with pytest.raises(CheckpointError, match=f"^{re.escape(message)}$"):
        load_stages(fusion, (files["lidar"], files["lidar"]), partial=True)
    other = tmp_path / "other.safetensors"
    save_weights({"encoders.camera.neck.new": torch.zeros(1), **weights["camera"]}, other, meta={})
    message = f"{other}: is a checkpoint of another model, it has 1 tensors that this model lacks"
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load_stages(fusion, (files["lidar"], other), partial=True)
    with pytest.raises(CheckpointError, match=r"lidar.safetensors, .*camera.safetensors: lack \d+ tensors"):
        load_stages(fusion, (files["lidar"], files["camera"]))
