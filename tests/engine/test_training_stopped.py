# SPDX-License-Identifier: Apache-2.0
"""Training that is stopped, repeated, resumed or out of disk: what is kept, and what the user is told."""

import contextlib
import errno
import os
import re
from dataclasses import replace

import pytest

from pcperc.engine import checkpoint as ckpt
from pcperc.engine.checkpoint import CheckpointError, load_checkpoint
from pcperc.engine.config import ConfigError
from pcperc.engine.messages import run_tool as run
from pcperc.engine.optim_wrapper import TrainingDiverged
from pcperc.engine.training import train
from tests.engine.helpers import options, read_losses


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


def test_bad_data_says_what_is_saved(configs, tmp_path, monkeypatch, capsys):
    """In the line of the error itself; the toy config saves every fourth iteration."""
    recipe, work = configs("a.py", ""), tmp_path / "work"
    monkeypatch.delenv("PCPERC_TRACEBACK", raising=False)

    def fail_at(iteration):
        def fail(self, runner, *_, **__):
            if runner.iter + 1 == iteration:
                raise ValueError("event b.npz: hits must be finite")

        monkeypatch.setattr("pcperc.engine.hooks.LossLogHook.after_train_iter", fail)

    fail_at(3)
    assert run(lambda: train(options(recipe, tmp_path))) == 1
    assert capsys.readouterr().err == "error: event b.npz: hits must be finite\n"
    fail_at(6)
    assert run(lambda: train(options(recipe, tmp_path))) == 1
    saved = f"{work / 'iter_4.pth'} is saved, and the same command with --resume goes on from it"
    assert capsys.readouterr().err == f"error: event b.npz: hits must be finite; {saved}\n"


def test_bad_data_of_a_second_stage_says_that_the_first_is_saved(configs, tmp_path, monkeypatch, capsys):
    configs("first.py", "")
    recipe = configs("recipe.py", "first_stage = 'first.py'\ntrain_dataloader.dataset.merge(dict(nan_at=0, size=4))")
    monkeypatch.delenv("PCPERC_TRACEBACK", raising=False)
    assert run(lambda: train(options(recipe, tmp_path))) == 1
    (line,) = capsys.readouterr().err.splitlines()
    (saved,) = (tmp_path / "work").glob("*/epoch_*.pth")
    assert line.endswith(f"; {saved} is saved, and the same command with --resume goes on from it")


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


def test_a_run_that_fails_in_its_first_step_leaves_the_earlier_one_where_it_was(configs, tmp_path, capsys):
    recipe, work = configs("a.py", ""), tmp_path / "work"
    train(options(recipe, tmp_path))
    before = {path.name: path.read_bytes() for path in work.iterdir() if path.is_file()}
    bad = configs("b.py", "train_dataloader.dataset.merge(dict(nan_at=0, size=4))")
    with pytest.raises(TrainingDiverged):
        train(options(bad, tmp_path))
    assert "no step was made: the checkpoints of the earlier run are back where they were\n" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in work.iterdir() if path.is_file()} == before
    assert not list(work.glob("earlier_*")) and ckpt.last_checkpoint(work) == work / "epoch_1.pth"


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


@pytest.mark.parametrize(
    "changed, difference",
    [
        ({"optim_wrapper.optimizer.lr": 0.5}, r"optim_wrapper\.optimizer\.lr: 0\.5 here, "),
        ({"train_cfg.max_epochs": 3}, r"train_cfg\.max_epochs: 3 here, 1 there"),
        ({"seed": 77}, "seed: 77 here, "),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_a_changed_config_is_not_resumed(configs, tmp_path, monkeypatch, changed, difference, finished):
    """The checkpoint's own rate would go on, and a finished run say that it is."""
    recipe = configs("a.py", "")
    with monkeypatch.context() as patch:
        if not finished:
            stop_at(patch, 6)
        with contextlib.nullcontext() if finished else pytest.raises(KeyboardInterrupt):
            train(options(recipe, tmp_path))
    with pytest.raises(ConfigError, match=rf"work/\w+\.pth: was made with another config, {difference}"):
        train(options(recipe, tmp_path, resume=True, overrides=changed))
    train(options(recipe, tmp_path, resume=True, overrides={"train_dataloader.num_workers": 1}))
