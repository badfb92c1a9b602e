# SPDX-License-Identifier: Apache-2.0
"""Recipes of several stages, profiles, missing data, and what the user is told."""

import errno
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pcperc.engine import checkpoint as ckpt
from pcperc.engine.checkpoint import CheckpointError, load_checkpoint
from pcperc.engine.config import ConfigError
from pcperc.engine.data import DataMissing
from pcperc.engine.messages import run_tool as run
from pcperc.engine.training import TrainOptions, default_work_dir, train
from tests.engine.helpers import TOY, read_losses, run_tool

RECIPE = """
from mmengine.config import read_base
with read_base():
    from {base} import *
{text}
"""


@pytest.fixture
def configs(tmp_path):
    """A folder with the toy config as stage.py, and recipes made of it."""
    (tmp_path / "stage.py").write_text(Path(TOY).read_text())

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(RECIPE.format(base=".stage", text="train_cfg.merge(dict(max_epochs=1))\n" + text))
        return path

    return write


def options(config: Path, tmp_path: Path, **more) -> TrainOptions:
    return TrainOptions(config=config, work_dir=tmp_path / "work", device="cpu", **more)


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


def test_killed_in_the_second_stage_resumes_there(configs, tmp_path, monkeypatch):
    configs("first.py", "")
    recipe = configs("recipe.py", "first_stage = 'first.py'\nmodel.merge(dict(noise=0.5))")
    whole = train(options(recipe, tmp_path))
    expected = read_losses(whole.parent)

    def stop(*_, **__):
        raise InterruptedError("stopped")

    again = replace(options(recipe, tmp_path), work_dir=tmp_path / "again")
    with monkeypatch.context() as patch:
        patch.setattr("pcperc.engine.hooks.SafeCheckpointHook.after_train_epoch", stop)
        with pytest.raises(InterruptedError):
            train(again)
    stage_one = tmp_path / "again/lidar_only/iter_8.pth"
    assert stage_one.is_file(), "stopped at the end of the first stage's only epoch"
    train(replace(again, resume=True))
    before = stage_one.stat().st_mtime_ns
    (tmp_path / "again/last_checkpoint").write_text("iter_8.pth\n")
    train(replace(again, resume=True))
    assert stage_one.stat().st_mtime_ns == before, "the finished first stage was not run again"
    assert read_losses(tmp_path / "again") == expected


def stop_at(monkeypatch, iteration: int):
    """Press Ctrl-C, as it were, after an iteration."""

    def press(self, runner, *_, **__):
        if runner.iter + 1 == iteration:
            raise KeyboardInterrupt

    monkeypatch.setattr("pcperc.engine.hooks.LossLogHook.after_train_iter", press)


def test_ctrl_c_says_what_is_saved(configs, tmp_path, monkeypatch, capsys):
    """The toy config saves every fourth iteration."""
    recipe, work = configs("a.py", ""), tmp_path / "work"
    stop_at(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt, match="^stopped before the first checkpoint: nothing is saved$"):
        train(options(recipe, tmp_path))
    stop_at(monkeypatch, 6)
    saved = f"stopped; {work / 'iter_4.pth'} is saved, and the same command with --resume goes on from it"
    with pytest.raises(KeyboardInterrupt, match=f"^{re.escape(saved)}$"):
        train(options(recipe, tmp_path))
    monkeypatch.delenv("PCPERC_TRACEBACK", raising=False)
    assert run(lambda: train(options(recipe, tmp_path, resume=True))) == 130
    assert capsys.readouterr().err == f"{saved}\n"


def test_a_second_run_replaces_no_checkpoint(configs, tmp_path, capsys, monkeypatch):
    recipe, work = configs("a.py", ""), tmp_path / "work"
    first = train(options(recipe, tmp_path))
    weights, losses = first.with_suffix(".safetensors").read_bytes(), read_losses(work)
    assert "earlier run" not in capsys.readouterr().out
    stop_at(monkeypatch, 6)
    # Weights of the earlier run may be what the new one starts from.
    with pytest.raises(KeyboardInterrupt):
        train(options(recipe, tmp_path, load_from=first.with_suffix(".safetensors")))
    (earlier,) = work.glob("earlier_*")
    assert f"{work}: the checkpoints of an earlier run were moved to {earlier}\n" in capsys.readouterr().out
    assert (earlier / "epoch_1.safetensors").read_bytes() == weights
    assert ckpt.finished_checkpoint(work) == earlier / "epoch_1.pth", "until a newer run is finished"
    assert ckpt.last_checkpoint(work) == work / "iter_4.pth"
    assert ckpt.last_checkpoint(earlier) == ckpt.finished_checkpoint(earlier) == earlier / "epoch_1.pth"
    monkeypatch.undo()
    train(options(recipe, tmp_path, resume=True))
    assert ckpt.finished_checkpoint(work) == work / "epoch_1.pth" and read_losses(work) != losses
    assert list(work.glob("earlier_*")) == [earlier], "a run that is resumed moves nothing"


def test_load_from_skips_the_first_stage(configs, tmp_path):
    configs("first.py", "")
    weights = train(options(configs("plain.py", ""), tmp_path))
    recipe = configs("recipe.py", "first_stage = 'first.py'")
    given = replace(options(recipe, tmp_path, load_from=weights.with_suffix(".safetensors")), work_dir=tmp_path / "b")
    train(given)
    assert not (tmp_path / "b/lidar_only").exists()


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
        Path(root).mkdir()

    for _ in range(2):
        path = train(options(full, tmp_path), simulate=simulate)
    assert calls == [(root, 3)], "simulated once"
    printed = capsys.readouterr().out
    assert printed.count(f"{tmp_path / 'real'} is missing: training at demonstration size on simulated data") == 2
    assert "trained at demonstration size on simulated data" in printed
    meta = load_checkpoint(path)["meta"]
    assert (meta["profile"], meta["simulated"], meta["data_root"]) == ("demo", True, str(root))
    with pytest.raises(DataMissing, match=re.escape(f"{tmp_path / 'real'} is missing: put the data set there")):
        train(options(full, tmp_path, profile="full"), simulate=simulate)
    (tmp_path / "real").mkdir()
    assert load_checkpoint(train(options(full, tmp_path)))["meta"]["profile"] == "full"
    with pytest.raises(DataMissing, match=r"has no profile 'small' \(known: full, demo\)"):
        train(options(full, tmp_path, profile="small"))


def test_full_disk_stops_with_one_line(configs, tmp_path, monkeypatch):
    work, written = tmp_path / "work", []
    real = os.fsync

    def full(descriptor):
        if len(written) >= 3:  # config, first checkpoint, its marker
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"iter_8.pth: cannot be written, the disk is full"):
        train(options(configs("a.py", ""), tmp_path))
    monkeypatch.undo()
    assert not list(work.glob(".*")), "no half-written file is left"
    newest = ckpt.last_checkpoint(work)
    assert newest is not None and load_checkpoint(newest)["meta"]["iter"] == 4
    train(options(configs("a.py", ""), tmp_path, resume=True))


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


def test_resume_with_another_profile_and_with_nothing(configs, tmp_path, capsys):
    configs("demo.py", "")
    full = configs("full.py", "profiles = dict(demo='demo.py')")
    (tmp_path / "work").mkdir()
    (tmp_path / "work/.iter_4.pth.77.partial").touch()
    train(options(full, tmp_path, profile="demo", resume=True))
    assert f"nothing to resume in {tmp_path / 'work'}, beginning" in capsys.readouterr().out
    assert not list((tmp_path / "work").glob(".*")), "what a killed run was writing is cleared away"
    message = "epoch_1.pth: was made with profile 'demo', this run has 'full'; resume with --profile demo"
    with pytest.raises(ConfigError, match=message):
        train(options(full, tmp_path, profile="full", resume=True))


def test_too_few_samples_for_a_batch(configs, tmp_path):
    plain = configs("a.py", "train_dataloader.merge(dict(batch_size=50, drop_last=True))")
    with pytest.raises(
        ValueError, match=r"^train_dataloader: 40 samples for this process make no batch of 50 \(drop_la"
    ):
        train(options(plain, tmp_path))


def test_unknown_key_of_a_loader(configs, tmp_path):
    plain = configs("a.py", "train_dataloader.merge(dict(batchsize=5))")
    with pytest.raises(TypeError, match="dataloader: unknown key 'batchsize' .known: dataset, sampler, batch_size"):
        train(options(plain, tmp_path))


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
