# SPDX-License-Identifier: Apache-2.0
"""Recipes of several stages, profiles, missing data, and what the user is told."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pcperc.engine.checkpoint import CheckpointError, load_checkpoint
from pcperc.engine.config import ConfigError
from pcperc.engine.data import DataMissing
from pcperc.engine.loop import build_dataloader
from pcperc.engine.training import default_work_dir, train
from pcperc.simulation.folder import write_folder
from tests.engine.helpers import TOY, options, read_losses, run_tool


def test_two_stages(configs, tmp_path, capsys):
    configs("first.py", "seed = 5")
    recipe = configs("recipe.py", "first_stage = 'first.py'\nmodel.merge(dict(dropout=0.0))")
    path = train(options(recipe, tmp_path))
    first = tmp_path / "work/lidar_only/epoch_1.pth"
    assert path == tmp_path / "work/epoch_1.pth" and first.is_file()
    printed = capsys.readouterr().out
    assert "stage 1/2 first: 0.00M parameters on cpu" in printed and "stage 2/2 recipe" in printed
    assert load_checkpoint(first)["meta"]["config"]["seed"] == 5
    log = next((tmp_path / "work").glob("*/*.log")).read_text()
    assert f"weights from {first}; 0 tensors of the model are not in it" in log


def test_load_from_skips_the_first_stage(configs, tmp_path):
    configs("first.py", "")
    weights = train(options(configs("plain.py", ""), tmp_path))
    recipe = configs("recipe.py", "first_stage = 'first.py'")
    given = replace(options(recipe, tmp_path, load_from=weights.with_suffix(".safetensors")), work_dir=tmp_path / "b")
    train(given)
    assert not (tmp_path / "b/lidar_only").exists()


def test_several_first_stages(configs, tmp_path, capsys):
    """Each begins with random weights; the last takes all of the first, of the second the encoders that it lacks."""
    for name in ("lidar.py", "camera.py"):
        configs(name, "")
    text = "first_stage = dict(lidar_only='lidar.py', camera_only='camera.py')\nmodel.merge(dict(dropout=0.0))"
    recipe = configs("recipe.py", text)
    with pytest.raises(CheckpointError, match="camera_only/epoch_1.pth: must have an encoder that .* lacks, got none"):
        train(options(recipe, tmp_path))
    printed = capsys.readouterr().out
    assert [f"stage {n}/3 {name}: 0.00M" in printed for n, name in ((1, "lidar"), (2, "camera"))] == [True, True]
    first, second = (load_checkpoint(tmp_path / f"work/{name}_only/epoch_1.pth") for name in ("lidar", "camera"))
    assert first["meta"]["finished"] and second["meta"]["finished"]
    log = next((tmp_path / "work/camera_only").glob("*/*.log")).read_text()
    assert "weights from" not in log
    with pytest.raises(ConfigError, match=r"first_stage must be the name of a config or a dict .*, got 3"):
        train(options(configs("wrong.py", "first_stage = 3"), tmp_path))
    for folder in ("", ".", "..", "a/b", "/tmp"):
        wrong = configs("wrong.py", f"first_stage = {{{folder!r}: 'lidar.py'}}")
        with pytest.raises(ConfigError, match=f"first_stage must name folders in the work dir, got {folder!r}"):
            train(options(wrong, tmp_path))
    for text in ("first_stage = 'lidar.py'", "load_from = 'weights.pth'"):
        configs("second.py", text)
        message = rf"second.py: {text.split()[0]} must not be there in a first stage, of .*third.py: it begins anew"
        with pytest.raises(ConfigError, match=message):
            train(options(configs("third.py", "first_stage = 'second.py'"), tmp_path))


def test_weights_that_a_config_names(configs, tmp_path, capsys):
    configs("first.py", "")
    recipe = configs("recipe.py", "first_stage = 'first.py'\nload_from = 'shipped.safetensors'")
    shipped = tmp_path / "shipped.safetensors"
    with pytest.raises(ConfigError, match=f"recipe.py: load_from names {shipped}, which is missing; --load-from"):
        train(options(recipe, tmp_path))
    train(options(configs("plain.py", ""), tmp_path)).with_suffix(".safetensors").rename(shipped)
    train(replace(options(recipe, tmp_path), work_dir=tmp_path / "b"))
    assert f"starting from {shipped}" in capsys.readouterr().out and not (tmp_path / "b/lidar_only").exists()


def test_checkpoint_of_another_model(configs, tmp_path):
    weights = train(options(configs("plain.py", ""), tmp_path))
    wider = configs("wider.py", "model.merge(dict(width=9))")
    message = re.escape(f"{weights}: is a checkpoint of another model, 'layers.0.weight' must be (9, 4), got (8, 4)")
    with pytest.raises(CheckpointError, match=f"^{message}$"):
        train(options(wider, tmp_path, load_from=weights))


def test_missing_data_takes_the_demo_profile_and_simulates(configs, tmp_path, capsys):
    root = tmp_path / "simulated"
    configs("demo.py", f"data_root = {str(root)!r}\nsimulation = dict(scenes=3)")
    full = configs("full.py", f"data_root = {str(tmp_path / 'real')!r}\nprofiles = dict(demo='demo.py')")
    calls = []

    def simulate(*, root, scenes):
        calls.append((root, scenes))
        write_folder(root, {"scenes": scenes}, lambda folder: (folder / "part").mkdir(), part="part")

    for _ in range(2):
        path = train(options(full, tmp_path), simulate=simulate)
    assert calls == [(root, 3)], "simulated once"
    printed = capsys.readouterr().out
    assert printed.count(f"{tmp_path / 'real'} is missing: training at demonstration size on simulated data") == 2
    assert "trained at demonstration size on simulated data" in printed
    meta = load_checkpoint(path)["meta"]
    assert (meta["profile"], meta["simulated"], meta["data_root"]) == ("demo", True, str(root))
    with pytest.raises(DataMissing, match=re.escape(f"{tmp_path / 'real'} is missing: put the data set there")) as said:
        train(options(full, tmp_path, profile="full"), simulate=simulate)
    assert str(said.value).endswith("or train at demonstration size with --profile demo")
    alone = configs("alone.py", f"data_root = {str(tmp_path / 'real')!r}")
    with pytest.raises(DataMissing, match="shows the tree\\)$"):  # and no word of a profile that it has not
        train(options(alone, tmp_path), simulate=simulate)
    (tmp_path / "real").mkdir()
    assert load_checkpoint(train(options(full, tmp_path)))["meta"]["profile"] == "full"
    with pytest.raises(DataMissing, match=r"has no profile 'small' \(known: full, demo\)"):
        train(options(full, tmp_path, profile="small"))
    message = r"demo.py: has no profile 'demo' \(known: full\); its data is simulated already, leave --profile out$"
    with pytest.raises(DataMissing, match=message):
        train(options(full.parent / "demo.py", tmp_path, profile="demo"))


def test_a_root_of_the_command_line_is_not_simulated(configs, tmp_path, capsys):
    """A mistyped folder of one's own events was made, filled with simulated ones, and trained with."""
    demo = configs("demo.py", "data_root = 'x'\nsimulation = dict(format='kitti_object', scenes=3, seed=0)")
    full = configs("full.py", "data_root = 'y'\nprofiles = dict(demo='demo.py')")
    given = {"data_root": str(tmp_path / "mine")}
    message = (
        f"data_root {tmp_path / 'mine'} is missing, and nothing is simulated in a folder that was given; python "
        f"tools/simulate.py kitti --scenes 3 --seed 0 --out {tmp_path / 'mine'} does it on purpose"
    )
    for config in (demo, full):
        with pytest.raises(DataMissing, match=f"^{re.escape(message)}$"):
            train(options(config, tmp_path, overrides=given), simulate=pytest.fail)
    assert "training" not in capsys.readouterr().out
    (tmp_path / "mine").mkdir()
    path = train(options(demo, tmp_path, overrides=given), simulate=pytest.fail)
    assert "note:" not in capsys.readouterr().out and load_checkpoint(path)["meta"]["simulated"] is False


def test_data_simulated_otherwise(configs, tmp_path, capsys):
    """Changed settings of a simulation that is there were ignored without a word."""
    root = tmp_path / "simulated"
    write_folder(root, {"scenes": 3, "seed": 0}, lambda folder: (folder / "part").mkdir(), part="part")
    recipe = configs("a.py", f"data_root = {str(root)!r}\nsimulation = dict(format='nuscenes', scenes=3, seed=0)")
    train(options(recipe, tmp_path))
    assert "instead of" not in capsys.readouterr().out
    message = f"{root} is there already, simulated with scenes 3 instead of 5, seed 0 instead of 1"
    another = (
        "python tools/simulate.py nuscenes --scenes 5 --seed 1 --out DIR makes another, --cfg-options data_root=DIR "
        "takes it"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}; {re.escape(another)}$"):
        train(options(recipe, tmp_path, overrides={"simulation.scenes": 5, "simulation.seed": 1}))
    other = configs("b.py", f"data_root = {str(root)!r}\nsimulation = dict(format='nuscenes', scenes=5, seed=1)")
    train(options(other, tmp_path))
    assert f"note: {message}; it is used as it is\n" in capsys.readouterr().out
    for text in ("[]", "not JSON"):
        (root / "simulation.json").write_text(text)
        with pytest.raises(ConfigError, match="is there already, and no simulation.json says how it was made; python"):
            train(options(recipe, tmp_path, overrides={"simulation.seed": 1}))


def test_tensorboard_curves_and_log_are_in_the_work_dir(configs, tmp_path):
    train(options(configs("a.py", ""), tmp_path))
    logs = next(p for p in (tmp_path / "work").iterdir() if p.is_dir())
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(logs)).Reload()
    assert {"loss", "loss_square", "lr"} <= set(curves.Tags()["scalars"])
    assert "Epoch(train)" in next(logs.glob("*.log")).read_text()


def test_backbone_options(configs, tmp_path):
    plain = configs("a.py", "")
    with pytest.raises(ConfigError, match="--pretrained-backbone .*no.pth: no such file"):
        train(options(plain, tmp_path, pretrained_backbone=tmp_path / "no.pth"))
    (tmp_path / "yes.pth").touch()
    with pytest.raises(ConfigError, match="--pretrained-backbone: .*a.py has no camera encoder"):
        train(options(plain, tmp_path, pretrained_backbone=tmp_path / "yes.pth"))


def test_too_few_samples_for_a_batch(configs, tmp_path):
    plain = configs("a.py", "train_dataloader.merge(dict(batch_size=50, drop_last=True))")
    with pytest.raises(
        ValueError, match=r"^train_dataloader: 40 samples for this process make no batch of 50 \(drop_la"
    ):
        train(options(plain, tmp_path))


def test_unknown_key_of_a_loader(configs, tmp_path):
    plain = configs("a.py", "train_dataloader.merge(dict(batchsize=5))")
    message = f"{plain}: train_dataloader has no key 'batchsize'; did you mean 'batch_size'?"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        train(options(plain, tmp_path))
    assert not (tmp_path / "work").exists()
    with pytest.raises(TypeError, match="^dataloader: unknown key 'batchsize'; did you mean 'batch_size'?"):
        build_dataloader({"batchsize": 5}, seed=0)


def test_seed_decides(configs, tmp_path):
    plain = configs("a.py", "")
    runs = [(3, "a"), (3, "b"), (4, "c")]
    losses = []
    for seed, name in runs:
        train(replace(options(plain, tmp_path, seed=seed), work_dir=tmp_path / name))
        losses.append(read_losses(tmp_path / name))
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([TOY, "--device", "cuda"], "error: --device cuda: no CUDA device was found ("),
        (
            ["configs/bevfusoin.py"],
            "error: configs/bevfusoin.py: no such config file; did you mean configs/bevfusion.py?",
        ),
    ],
)
def test_the_tool_ends_in_one_line(arguments, message):
    process = run_tool("tools/train.py", *arguments)
    assert process.returncode == 1
    assert process.stderr.startswith(message) and process.stderr.count("\n") == 1, process.stderr


def test_default_work_dir():
    assert default_work_dir(Path("configs/bevfusion.py")) == Path("work_dirs/bevfusion")


def test_pretrained_backbone_and_training_from_scratch_are_said(tmp_path, capsys):
    from safetensors.torch import save_file

    from pcperc.engine.backbone import backbone_starter, warn_of_random_backbone
    from pcperc.engine.config import load_config
    from pcperc.registry import MODELS

    file = Path("configs/bevfusion/demo.py")
    cfg = load_config(file)
    model, other = MODELS.build(cfg.model), MODELS.build(cfg.model)
    weights = other.encoders["camera"].backbone.state_dict()
    save_file(weights, tmp_path / "swin.safetensors")
    backbone_starter(None, has_weights=False)(model)
    assert "camera backbone: trained from scratch (--pretrained-backbone FILE" in capsys.readouterr().out
    backbone_starter(tmp_path / "swin.safetensors", has_weights=False)(model)
    assert f"camera backbone: {tmp_path / 'swin.safetensors'} (pcperc names)" in capsys.readouterr().out
    loaded = model.encoders["camera"].backbone.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())
    backbone_starter(None, has_weights=False)(torch.nn.Linear(1, 1))
    backbone_starter(None, has_weights=True)(model)
    assert capsys.readouterr().out == "", "a model without cameras, or with all weights given, has nothing to say"
    for quiet in ("configs/bevfusion/demo.py", "configs/bevfusion/lidar_only.py"):
        warn_of_random_backbone(load_config(quiet))
    assert capsys.readouterr().out == "", "simulated data, or no cameras"
    warn_of_random_backbone(load_config("configs/bevfusion.py"))
    warning = capsys.readouterr().out
    assert warning.count("\n") == 1 and "a Swin-T trained on nuImages: --pretrained-backbone FILE" in warning
