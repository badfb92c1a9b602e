# SPDX-License-Identifier: Apache-2.0
"""Checkpoints back to models, agreement with a config, testing and its messages."""

import copy
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from pcperc.engine import load_model, open_checkpoint, testing
from pcperc.engine.checkpoint import CheckpointError, load_checkpoint, save_checkpoint, write_finished_marker
from pcperc.engine.config import ConfigError, load_config
from pcperc.engine.loading import build_model, run_in
from pcperc.engine.runner import _free_folder_name
from pcperc.engine.testing import BlankImages, TestOptions, _title, test, test_config
from pcperc.engine.training import TrainOptions, train
from pcperc.nn.fuse import FusedConvBlock
from pcperc.registry import MODELS
from tests.engine.helpers import TOY, run_tool


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    work_dir = tmp_path_factory.mktemp("trained")
    return train(TrainOptions(config=Path(TOY), work_dir=work_dir, device="cpu", overrides={"train_cfg.max_epochs": 1}))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_model_and_config_come_back(trained, suffix):
    model, cfg = load_model(trained.with_suffix(suffix), TOY)
    assert not model.training and cfg["model"] == {"type": "ToyModel", "width": 8}
    state = load_checkpoint(trained)["state_dict"]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert model(torch.zeros(2, 4), None).__len__() == 2


def edited(trained: Path, tmp_path: Path, edit) -> Path:
    checkpoint = load_checkpoint(trained)
    edit(checkpoint["meta"])
    save_checkpoint(checkpoint, tmp_path / "edited.pth")
    return tmp_path / "edited.pth"


def test_another_config_is_a_conflict(trained, tmp_path):
    path = edited(trained, tmp_path, lambda meta: meta["config"]["model"].update(width=9))
    message = f"{path} was made with other settings of {TOY}: model.width: 8 here, 9 there"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        open_checkpoint(path, TOY)
    with pytest.raises(CheckpointError, match="is a checkpoint of another model, 'layers.0.weight' must be"):
        load_model(path)


def test_data_elsewhere_is_a_conflict_unless_said(trained, tmp_path):
    config = tmp_path / "here.py"
    config.write_text(Path(TOY).read_text() + "data_root = 'data/here'\n")
    path = edited(trained, tmp_path, lambda meta: meta["config"].update(data_root="data/there"))
    message = f"{path}: its data was in data/there, {config} has data/here; --data-root DIR says where it is now"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        open_checkpoint(path, config)
    assert open_checkpoint(path, config, data_root="/elsewhere").cfg["data_root"] == "/elsewhere"


def test_a_profile_of_the_config_agrees(trained, tmp_path):
    (tmp_path / "demo.py").write_text(Path(TOY).read_text())
    config = tmp_path / "full.py"
    config.write_text(Path(TOY).read_text().replace("width=8", "width=20") + "profiles = dict(demo='demo.py')\n")
    assert open_checkpoint(trained, config).meta["profile"] == "full"


def test_the_profile_with_the_same_model_is_named(trained, tmp_path):
    """Of weights that were made with a third file, on other data."""
    (tmp_path / "demo.py").write_text(Path(TOY).read_text() + "data_root = 'data/here'\n")
    config = tmp_path / "full.py"
    config.write_text(Path(TOY).read_text().replace("width=8", "width=20") + "profiles = dict(demo='demo.py')\n")
    path = edited(
        trained, tmp_path, lambda meta: (meta.update(config_file="x.py"), meta["config"].update(data_root="data/there"))
    )
    message = (
        f"{path}: its data was in data/there, {tmp_path / 'demo.py'} (a profile of {config}) has data/here; "
        "--data-root DIR says where it is now"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        open_checkpoint(path, config)


@pytest.mark.parametrize("name", ["os.system", "subprocess.Popen", "ToyModle"])
def test_names_in_a_checkpoint_are_never_imported(trained, tmp_path, name):
    path = edited(trained, tmp_path, lambda meta: meta["config"].update(model={"type": name, "command": "false"}))
    with pytest.raises(CheckpointError, match=f"its model cannot be built, model: type '{name}' is not registered"):
        load_model(path)


def test_weights_without_a_config(tmp_path):
    save_checkpoint({"meta": {}, "state_dict": {}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="a.pth: carries no config; expected a checkpoint that train.py wrote"):
        open_checkpoint(tmp_path / "a.pth")


def test_testing_takes_the_newest_finished_checkpoint(trained, capsys):
    metrics = test(TestOptions(config=Path(TOY), work_dir=trained.parent, device="cpu"))
    assert set(metrics) == {"toy/mean"} and metrics["toy/mean"] > 0
    printed = capsys.readouterr().out
    assert f"testing {trained}" in printed and f"\ntoy/mean: {metrics['toy/mean']:.4f}\n" in printed


def test_the_profile_is_said_where_there_is_a_choice(trained, tmp_path):
    plain = open_checkpoint(trained)
    cfg = test_config(plain, TestOptions(config=Path(TOY)), tmp_path)
    assert _title(plain, cfg) == f"{trained}, its data"
    demo = open_checkpoint(edited(trained, tmp_path, lambda meta: meta.update(profile="demo")))
    assert _title(demo, cfg) == f"{demo.path}, profile demo, its data"
    full = open_checkpoint(edited(trained, tmp_path, lambda meta: meta["config"].update(profiles={"demo": "demo.py"})))
    assert _title(full, cfg) == f"{full.path}, profile full, its data"


def test_testing_uses_the_averaged_weights(trained):
    """EMA: the file's state_dict is the average; the trained weights are kept for a resume."""
    checkpoint = load_checkpoint(trained)
    averaged, raw = checkpoint["state_dict"], checkpoint["ema_state_dict"]
    assert not torch.equal(averaged["layers.0.weight"], raw["module.layers.0.weight"])
    model, _ = load_model(trained)
    assert torch.equal(model.state_dict()["layers.0.weight"], averaged["layers.0.weight"])


def test_no_checkpoint_names_the_command(tmp_path):
    message = f"{tmp_path}: no finished checkpoint; make one with: python tools/train.py {TOY}"
    with pytest.raises(CheckpointError, match=f"^{re.escape(message)}$"):
        test(TestOptions(config=Path(TOY), work_dir=tmp_path))


def test_unknown_evaluation(tmp_path):
    with pytest.raises(ConfigError, match="--eval must be one of nuscenes, bbox, .*, calo, got 'boxes'"):
        test(TestOptions(config=Path(TOY), work_dir=tmp_path, evaluation="boxes"))


def test_graphs_are_for_what_can_be_captured(trained):
    options = TestOptions(config=Path(TOY), work_dir=trained.parent, device="cpu", cuda_graph=100)
    with pytest.raises(ConfigError, match="--cuda-graph: capture_model: model must be one of .*, got a ToyModel"):
        test(options)


def test_only_what_has_norms_or_blocks_is_fused(trained):
    options = TestOptions(config=Path(TOY), work_dir=trained.parent, device="cpu", fuse=True)
    with pytest.raises(
        ConfigError, match="--fuse: fuse: model must contain a ConvBlock or a layer with its batch norm"
    ):
        test(options)


def test_the_fused_model_is_the_one_that_is_tested(trained, monkeypatch):
    runs = []

    def fused(model):
        assert not model.training
        replacement = copy.deepcopy(model)
        replacement.register_forward_hook(lambda *arguments: runs.append(replacement))
        return replacement

    monkeypatch.setattr(testing, "fused", fused)
    test(TestOptions(config=Path(TOY), work_dir=trained.parent, device="cpu", fuse=True, precision="bfloat16"))
    assert len(runs) == 2  # 8 samples in batches of 4


def test_a_super_network_is_not_fused():
    config = load_config(Path("configs/spvnas/spvnas_supernet_demo.py"))
    model = MODELS.build(config["model"]).eval()
    with pytest.raises(ConfigError, match="^--fuse: a super network cannot be fused; fine-tune a subnet that"):
        testing.fused(model)


def test_a_checkpoint_is_built_fused():
    opened = open_checkpoint(Path("configs/bevfusion/demo_weights.safetensors"))
    model = build_model(opened, torch.device("cpu"), fuses=True)
    assert any(isinstance(module, FusedConvBlock) for module in model.encoders["lidar"].modules())
    assert isinstance(model.fuser.conv.norm, nn.Identity)


def test_the_tool_alone_names_what_is_missing(tmp_path):
    process = run_tool("tools/test.py", "--work-dir", tmp_path, "--eval", "nuscenes")
    assert process.returncode == 1
    command = "make one with: python tools/train.py configs/bevfusion.py"
    assert process.stderr == f"error: {tmp_path}: no finished checkpoint; {command}\n"


def test_marker_of_a_vanished_file(tmp_path):
    write_finished_marker(tmp_path, tmp_path / "gone.pth")
    with pytest.raises(CheckpointError, match="no finished checkpoint"):
        test(TestOptions(config=Path(TOY), work_dir=tmp_path))


def test_blank_images():
    import numpy as np

    images = [np.full((2, 3, 3), 7, np.uint8)] * 2
    blank = BlankImages()({"images": images, "points": 1})
    assert [image.sum() for image in blank["images"]] == [0, 0] and blank["points"] == 1
    assert images[0].sum() == 7 * 18, "the arrays it was given stay"


def test_runs_of_the_same_second_have_log_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda form: "20260101_000000")
    names = []
    for _ in range(3):
        names.append(_free_folder_name(tmp_path))
        (tmp_path / names[-1]).mkdir()
    assert names == ["20260101_000000", "20260101_000000_2", "20260101_000000_3"]


def test_config_in_the_log_folder_is_the_checkpoints(trained):
    written = [json.loads(path.read_text()) for path in trained.parent.glob("*/config.json")]
    assert load_checkpoint(trained)["meta"]["config"] in written


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_model_runs_in_half_precision(precision):
    model = torch.nn.Linear(3, 2)
    run_in(model, precision, torch.device("cpu"))
    assert str(model(torch.zeros(1, 3)).dtype) == f"torch.{precision}"
    assert model.weight.dtype == torch.float32


def test_an_unknown_precision_is_named():
    with pytest.raises(ConfigError, match="--precision must be of float32, float16, bfloat16, got int8"):
        run_in(torch.nn.Linear(3, 2), "int8", torch.device("cpu"))
